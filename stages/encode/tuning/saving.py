"""A tuned model in a folder of its own that opens as an encoder."""

import shutil
from pathlib import Path
from typing import Any

from stages.core.log import get_logger
from stages.core.params import Encoder
from stages.encode.encoders import TextEncoder, describe, load_encoder

log = get_logger(__name__)


def save_tuned(model: Any, base: Encoder, folder: Path) -> TextEncoder:
    """Write a tuned model with its description into a new folder, and open it as an encoder."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save(str(folder), create_model_card=False)
    description = Encoder(
        **base.model_dump(exclude={"kind", "model", "multi_vector"}),
        kind="bge_m3" if base.kind == "bge_m3" else "sentence_transformers",
        model=".",
    )
    heads = _keep_heads(base, folder)
    opened = load_encoder(description.model_copy(update={"model": str(folder)}))
    describe(folder, description, opened, **heads)
    return opened


def _keep_heads(base: Encoder, folder: Path) -> dict[str, str]:
    """Put the base's heads beside tuned weights of BGE-M3, and return what is to be said of them.

    The loss reads the dense vector alone, so the layers behind lexical weights and vectors a token
    are not trained; they read hidden states that training has moved.
    """
    if base.kind != "bge_m3":
        return {}
    from stages.encode.encoders.bge_m3 import HEADS, folder_of

    published = folder_of(base)
    for name in HEADS:
        shutil.copyfile(published / name, folder / name)
    log.info("the dense output is tuned; the heads %s are the base's, untuned", ", ".join(HEADS))
    return {"heads": "the base's, untuned"}
