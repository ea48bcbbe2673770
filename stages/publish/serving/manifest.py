"""What a bundle says of itself, and the check that it is whole."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.core.log import UserError
from stages.core.params import RankerName, RetrieverName
from stages.core.storage import write_json
from stages.core.store import content_hash

MANIFEST = "manifest.json"
FORMAT = 1
_AGAIN = "copy the bundle again or run `dvc repro bundle`"


class Manifest(BaseModel):
    """A bundle's manifest.

    Attributes:
        format: layout version; a service refuses one that it does not know.
        bundle_id: hash of every file's path and content; two equal bundles have one id.
        files: hash of each file by its path in the bundle.
        retrievers: those that answer, in the order of their candidates.
        ranker: the one that serves.
        top_k: candidates a retriever gives and the blend keeps.
        max_query_chars: longer queries are refused.
        max_top_k: larger requests are refused.
        recipe: the whole of params.yaml.
        revision: git revision of the code, with "+changes" where the tree was not clean.
        metrics: figures of the test split.
        versions: of Python and the libraries that decide a score.
    """

    model_config = ConfigDict(extra="forbid")

    format: int
    bundle_id: str
    files: dict[str, str]
    retrievers: list[RetrieverName]
    ranker: RankerName
    top_k: int
    max_query_chars: int
    max_top_k: int
    recipe: dict[str, Any]
    revision: str
    metrics: dict[str, Any]
    versions: dict[str, str]


def hash_files(folder: Path) -> dict[str, str]:
    """Hash every file below a folder but the manifest, by path relative to it."""
    return {
        path.relative_to(folder).as_posix(): _hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def write_manifest(folder: Path, **facts: Any) -> Manifest:
    """Hash what lies in `folder` and write its manifest."""
    found = hash_files(folder)
    bundle_id = content_hash(found)[:12]
    manifest = Manifest(format=FORMAT, bundle_id=bundle_id, files=found, **facts)
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a manifest and check every file against it.

    Raises:
        UserError: there is no bundle, its format is unknown, or a file is missing, changed or more.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise UserError(f"{folder} holds no bundle ({MANIFEST} is missing); run `dvc repro bundle`")
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); {_AGAIN}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise UserError(
            f"{folder}: bundle format is not {FORMAT}; run `dvc repro bundle` with this version"
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{path}: {where}: {problem['msg']}; {_AGAIN}") from error
    found = hash_files(folder)
    wrong = sorted(
        path
        for path in found.keys() | manifest.files.keys()
        if found.get(path) != manifest.files.get(path)
    )
    if wrong:
        raise UserError(
            f"{folder}: {len(wrong)} of the bundle's files are not as {MANIFEST} says, such as "
            f"{wrong[0]!r}; {_AGAIN}"
        )
    return manifest


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
