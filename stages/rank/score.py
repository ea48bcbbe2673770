"""Score: examples of valid and test and one fitted ranker in, their scores and ranks out."""

from pathlib import Path
from typing import Annotated, cast

import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import RankerName
from stages.rank.rankers import load_ranker
from stages.rank.rankers.base import scores_frame

log = get_logger(__name__)


def main(
    ranker: Annotated[str, typer.Argument(help="Name of the ranker.")],
    examples_file: Path = files.EXAMPLES,
    rankers_folder: Path = files.RANKERS,
    scores_folder: Path = files.SCORES,
) -> None:
    """Score the candidates of every valid and test query."""
    examples = tables.read(examples_file, tables.EXAMPLES)
    held = examples.filter(pl.col("split").is_in(["valid", "test"]))
    fitted = load_ranker(cast(RankerName, ranker), rankers_folder / ranker)
    scores = scores_frame(held, fitted.score(held), ranker)
    tables.write(scores, scores_folder / f"{ranker}.parquet", tables.SCORES)
    log.info("%s: %d scores of %d queries", ranker, scores.height, scores["query_id"].n_unique())


if __name__ == "__main__":
    run(main)
