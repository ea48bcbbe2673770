"""A bundle that is not as its manifest says is refused with one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.core.log import UserError
from stages.publish.serving import Manifest, Recommender, read_manifest
from stages.publish.serving.manifest import write_manifest


def tiny_bundle(folder: Path) -> Manifest:
    """Write files of no meaning and the manifest that goes with them."""
    (folder / "ranker").mkdir()
    (folder / "ranker" / "model.txt").write_text("trees")
    (folder / "items.parquet").write_bytes(b"PAR1")
    return write_manifest(
        folder,
        retrievers=["bm25"],
        ranker="lightgbm",
        top_k=10,
        max_query_chars=100,
        max_top_k=10,
        recipe={},
        revision="none",
        metrics={},
        versions={},
    )


def test_a_whole_bundle_has_the_manifest_that_was_written(tmp_path: Path) -> None:
    written = tiny_bundle(tmp_path)
    assert read_manifest(tmp_path) == written
    assert set(written.files) == {"items.parquet", "ranker/model.txt"}


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda folder: (folder / "items.parquet").write_bytes(b"PA"), "'items.parquet'"),
    "changed": (lambda folder: (folder / "items.parquet").write_bytes(b"PAR2"), "'items.parquet'"),
    "missing": (lambda folder: (folder / "ranker" / "model.txt").unlink(), "'ranker/model.txt'"),
    "more": (lambda folder: (folder / "extra.txt").write_text("?"), "'extra.txt'"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "holds no bundle"),
    "half a manifest": (lambda folder: (folder / "manifest.json").write_text("{"), "is not JSON"),
    "no text": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff"), "is not JSON"),
    "another format": (lambda folder: told(folder, format=99), "format is not 1"),
    "another field": (lambda folder: told(folder, top_k="ten"), "top_k: Input should be"),
}


def told(folder: Path, **facts: object) -> None:
    """Have the manifest say something else."""
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused(tmp_path: Path, damage: str) -> None:
    done, reason = DAMAGES[damage]
    tiny_bundle(tmp_path)
    done(tmp_path)
    with pytest.raises(UserError) as caught:
        Recommender.load(tmp_path)
    message = str(caught.value)
    assert message.startswith(str(tmp_path))
    assert reason in message
    assert "run `dvc repro bundle`" in message
    assert "\n" not in message
