"""What one device gives: `python -m tests.devices.answers <folder>` writes it all into a folder.

It runs on CUDA where CUDA is seen, so that CUDA_VISIBLE_DEVICES decides. What is trained draws from
the device's own generator and is not compared number by number; what is computed is.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from stages.core.determinism import seed_everything, torch_device
from stages.core.storage import read_json, write_json
from stages.encode.encoders import Encoded, load_encoder
from tests.encode import tiny_models
from tests.encode.test_finetune import run as finetune
from tests.encode.tiny_models import settings
from tests.retrieve.conftest import OWN, TWINS_ASKED, fit

TEXTS = [" ".join((tiny_models.WORDS * 2)[n : n + 1 + (7 * n) % 32]) for n in range(24)]
RETRIEVERS = ("dense_base", "dense", "sparse", "multi_vector")


def arrays(encoded: Encoded) -> dict[str, np.ndarray]:
    """Dense vectors; weights by token id, shape (texts, tokens); and all vectors a token."""
    made = {"dense": encoded.dense}
    if encoded.sparse is not None:
        made["sparse"] = np.zeros((len(encoded.sparse), 200), np.float32)
        for row, weights in enumerate(encoded.sparse):
            made["sparse"][row, [int(token) for token in weights]] = list(weights.values())
    if encoded.multi is not None:
        made["multi"] = np.concatenate(encoded.multi).astype(np.float32)
    return made


def encode(folder: Path) -> None:
    """A sentence-transformers model, and BGE-M3 with all outputs, in full and half precision."""
    bert, bge_m3 = tiny_models.bert(folder / "bert"), tiny_models.bge_m3(folder / "bge_m3")
    for name, params in {
        "sentence_transformers": settings(bert),
        "bge_m3": settings(bge_m3, kind="bge_m3", multi_vector=True),
        "bge_m3-bf16": settings(bge_m3, kind="bge_m3", multi_vector=True, precision="bf16"),
    }.items():
        encoder = load_encoder(params)
        made = encoder.encode(TEXTS, "document", fixed_shape=True, multi=True)
        np.savez(folder / f"{name}.npz", **arrays(made))
        alone = encoder.encode(TEXTS[5:6], "document", fixed_shape=True, multi=True)
        np.savez(folder / f"{name}-alone.npz", **arrays(alone))


def retrieve(folder: Path) -> None:
    """Scores of every retriever with an encoder, and the first items of the two towers."""
    for name in RETRIEVERS:
        case = fit(name, folder / name)
        found = case.fitted.retrieve(case.ask([*OWN, TWINS_ASKED]), 100)
        found.sort("query_id", "item_id").write_parquet(folder / f"{name}.parquet")
    case = fit("two_tower", folder / "two_tower")
    case.fitted.retrieve(case.ask(OWN), 1).write_parquet(folder / "two_tower.parquet")


def tune(folder: Path) -> None:
    """BGE-M3, tuned whole by the stage, and what it then gives."""
    folder.mkdir()
    params = settings(folder.parent / "bge_m3", kind="bge_m3", multi_vector=True)
    finetune(folder, params, lr=5e-3, epochs=24.0)
    made = load_encoder(folder / "tuned").encode(TEXTS, "document", fixed_shape=True)
    np.savez(folder / "answers.npz", **arrays(made))


def main(folder: Path) -> None:
    """Write everything, and last of all on which device it was made."""
    import torch

    torch.set_num_threads(1)
    seed_everything(7)
    encode(folder)
    retrieve(folder)
    tune(folder / "finetune")
    write_json(folder / "about.json", {"device": torch_device()})


def device_of(folder: Path) -> str:
    """Return the device on which a folder's answers were made."""
    return str(read_json(folder / "about.json")["device"])


def frame(folder: Path, name: str) -> pl.DataFrame:
    """Read what a retriever found."""
    return pl.read_parquet(folder / f"{name}.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
