"""Which weights a model's folder holds, told without reading all of them."""

import hashlib
from pathlib import Path

_WHOLE = 2**20
_PLACES = 256
_SAMPLE = 4096


def folder_hash(folder: Path) -> str:
    """Return 32 hex digits of what a model's folder holds, wherever it lies.

    They are of the names and sizes of its files and of their content: configurations whole, and of
    files over a MiB, which are weights and vocabularies, 4 KiB at 256 places. So other weights of
    the same shape are noticed unless they differ in few of their rows. Hidden files, Markdown and
    folders within are not read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix == ".md" or not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{len(path.name)} {path.name} {size} ".encode())
        with path.open("rb") as file:
            if size <= _WHOLE:
                digest.update(file.read())
                continue
            for place in range(_PLACES):
                file.seek((size - _SAMPLE) * place // (_PLACES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
