"""Base: the encoder that `params.encoder` names in, its description and weights hash out.

A model on a hub may change under its name; all that follows is made by the weights described here.
"""

from pathlib import Path
from typing import Annotated

import typer

from stages.core import files
from stages.core.log import get_logger, run
from stages.core.params import load_params
from stages.core.storage import atomic_folder
from stages.encode.encoders import describe, describe_none, load_encoder

log = get_logger(__name__)


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    base_folder: Path = files.BASE_MODEL,
) -> None:
    """Load the base encoder once and pin it."""
    params = load_params(params_file)
    if params.encoder.kind == "none":
        with atomic_folder(base_folder) as folder:
            describe_none(folder, params.encoder)
        log.info("none: texts are not encoded")
        return
    encoder = load_encoder(params.encoder)
    with atomic_folder(base_folder) as folder:
        describe(folder, params.encoder, encoder)
    log.info("%s: %s, %d dimensions", params.encoder.kind, encoder.model_hash, encoder.dimension)


if __name__ == "__main__":
    run(main)
