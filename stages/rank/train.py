"""Train: examples of the `rank` slice in, one fitted ranker out, stopped early on valid."""

from pathlib import Path
from typing import Annotated, cast

import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import RankerName, load_params
from stages.core.storage import atomic_folder
from stages.rank.rankers import make_ranker

log = get_logger(__name__)


def main(
    ranker: Annotated[str, typer.Argument(help="Name of the ranker.")],
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    examples_file: Path = files.EXAMPLES,
    rankers_folder: Path = files.RANKERS,
) -> None:
    """Fit one ranker and write it with its feature importance."""
    params = load_params(params_file)
    name = cast(RankerName, ranker)
    examples = tables.read(examples_file, tables.EXAMPLES)
    features = tables.feature_names(examples)
    made = make_ranker(name, params.train, params.seed)
    learned, held = examples.filter(split="rank"), examples.filter(split="valid")
    made.fit(learned, held, features)
    with atomic_folder(rankers_folder / name) as folder:
        made.save(folder)
        made.importance().write_csv(folder / "importance.csv", float_precision=6)
    log.info("%s: %d examples, %d features", name, learned.height, len(features))


if __name__ == "__main__":
    run(main)
