"""Picture files to vectors, kept by the model and the file's content: none is encoded twice."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from stages.core.log import get_logger, progress
from stages.core.store import Store, content_hash
from stages.encode.imaging.base import PictureEncoder, open_picture

log = get_logger(__name__)


def encode_files(
    paths: Sequence[Path], encoder: PictureEncoder, store: Path, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Encode picture files, asking the model only for those whose vectors the store lacks.

    Every batch is kept as soon as it is encoded, so that a run that was killed goes on from there.

    Args:
        paths: of files; equal files cost one vector.
        encoder: the model.
        store: SQLite file in which vectors are kept.
        batch_size: pictures that are read, encoded and kept at once.

    Returns:
        vectors, float32, shape (n, dimension), and which of them are: a row is False, and its
        vector 0, where the file cannot be read as a picture.
    """
    vectors = np.zeros((len(paths), encoder.dimension), np.float32)
    good = np.zeros(len(paths), bool)
    asked = 0
    with (
        Store(store) as kept,
        ThreadPoolExecutor() as pool,
        progress(total=len(paths), desc="pictures", unit="picture") as bar,
    ):
        for start in range(0, len(paths), batch_size):
            contents = list(pool.map(_content, paths[start : start + batch_size]))
            keys = [_key(encoder, content) for content in contents]
            known = kept.get_many(keys)
            missing = {
                key: content
                for key, content in zip(keys, contents, strict=True)
                if content is not None and key not in known
            }
            opened = pool.map(partial(open_picture, side=encoder.side), missing.values())
            pictures = {key: p for key, p in zip(missing, opened, strict=True) if p is not None}
            if pictures:
                encoded = encoder.encode(list(pictures.values())).astype("<f4")
                new = {key: row.tobytes() for key, row in zip(pictures, encoded, strict=True)}
                kept.put_many(new, f"picture vectors of {encoder.model_hash[:8]}")
                known.update(new)
            asked += len(pictures)
            for row, key in enumerate(keys, start):
                if key in known:
                    vectors[row], good[row] = np.frombuffer(known[key], "<f4"), True
            bar.update(len(keys))
    log.info("%d pictures: %d encoded, the rest kept or broken", len(paths), asked)
    return vectors, good


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _key(encoder: PictureEncoder, content: bytes | None) -> str:
    digest = hashlib.blake2b(content or b"", digest_size=16).hexdigest()
    return content_hash(encoder.model_hash, "picture", digest)
