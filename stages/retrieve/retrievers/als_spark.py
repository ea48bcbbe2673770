"""Factors by Spark MLlib, in a process of its own: what it and its JVM write stays off the log."""

import os
import re
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stages.core.log import UserError
from stages.core.params import Als
from stages.retrieve.retrievers.choices import Choices

_ERROR = re.compile(r"^.*(?:Error|Exception)\b.*$", re.MULTILINE)


def spark_factors(
    chosen: Choices, params: Als, factors: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factor by `pyspark.ml.recommendation.ALS` with implicit preferences.

    Its confidence is 1 + alpha x weight, as here, but the weight of a user's or an item's length is
    `regularization` times how many pairs they have (ALS-WR; Zhou et al., Large-Scale Parallel
    Collaborative Filtering for the Netflix Prize, 2008). Users are solved for last: they are what
    folding their histories in gives.

    Pairs and factors are exchanged as parquet in a temporary folder, which a master that is not
    local must see as well (`TMPDIR`). Each side is cut into as many blocks as the master has
    threads; with up to two, the same seed gives the same bits.

    Args:
        chosen: with one pair or more.
        params: of the retriever.
        factors: length of a vector.
        seed: decides where it starts.

    Returns:
        factors of users and of items, float32, in the order of their ids.

    Raises:
        UserError: pyspark or Java is missing, or Spark failed; the first error of its log is told.
    """
    demand_spark()
    with tempfile.TemporaryDirectory(prefix="winnow-spark-") as name:
        folder = Path(name)
        log = folder / "spark.log"
        pairs = chosen.pairs.with_columns(pl.col("weight").cast(pl.Float32))
        pairs.write_parquet(folder / "pairs.parquet")
        with ProcessPoolExecutor(1, get_context("spawn"), _write_to, (log,)) as pool:
            try:
                pool.submit(_factor, folder, params, factors, seed).result()
            except (BrokenProcessPool, RuntimeError) as error:
                said = _ERROR.search(log.read_text("utf-8", "replace"))
                raise UserError(
                    f"Spark on {params.spark_master!r} failed: {error} "
                    f"({said[0] if said else 'its log names no error'}); correct "
                    "fit.als.spark_master or Java, or set fit.als.backend to implicit"
                ) from None
        users, items = (
            factors_of(folder / side, rows, factors)
            for side, rows in zip(("users", "items"), chosen.shape, strict=True)
        )
    return users, items


def demand_spark() -> None:
    """Refuse to go on without Java or pyspark; what to install is told."""
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java") is None and not (home and (Path(home) / "bin" / "java").exists()):
        raise UserError(
            "fit.als.backend is spark, which needs Java 17 or later: install the Debian package "
            "openjdk-17-jre-headless or point JAVA_HOME at a Java, or set the backend to implicit"
        )
    if find_spec("pyspark") is None:
        raise UserError(
            "fit.als.backend is spark, which needs pyspark: run `pip install -c constraints.txt "
            "-e '.[spark]'` or set the backend to implicit"
        )


def _write_to(log: Path) -> None:
    """Send what this process and its children write to a file, and work beside it."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(log.parent)


def _factor(folder: Path, params: Als, factors: int, seed: int) -> None:
    """Read pairs and write factors of users and items, as Spark does."""
    if params.spark_master.startswith("local"):
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    try:
        _run_spark(folder, params, factors, seed)
    except Exception as error:
        # Errors of the JVM hold on to it, and cannot be sent to another process.
        raise RuntimeError(" ".join(str(error).split("\n")[:2])) from None


def _run_spark(folder: Path, params: Als, factors: int, seed: int) -> None:
    with open_session(params.spark_master, folder) as spark:
        model = train(spark, folder / "pairs.parquet", params, factors, seed)
        model.userFactors.write.parquet(str(folder / "users"))
        model.itemFactors.write.parquet(str(folder / "items"))


def open_session(master: str, folder: Path) -> Any:
    """Start Spark in this process, with all that it writes in `folder`; `with` stops it."""
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master(master)
        .appName("winnow-als")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.local.dir", str(folder))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.driver.extraJavaOptions", f'"-Djava.io.tmpdir={folder}" -XX:-UsePerfData')
        .getOrCreate()
    )
    # Without checkpoints each round's past is sent along, in time deeper than a stack.
    spark.sparkContext.setCheckpointDir(str(folder / "checkpoints"))
    return spark


def train(spark: Any, pairs: Path, params: Als, factors: int, seed: int) -> Any:
    """Return the `ALSModel` of the pairs in a parquet file."""
    from pyspark.ml.recommendation import ALS

    blocks = spark.sparkContext.defaultParallelism
    return ALS(
        rank=factors,
        maxIter=params.iterations,
        regParam=params.regularization,
        alpha=params.alpha,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        implicitPrefs=True,
        coldStartStrategy="drop",
        userCol="user",
        itemCol="item",
        ratingCol="weight",
        seed=seed,
    ).fit(spark.read.parquet(str(pairs)))


def factors_of(folder: Path, rows: int, factors: int) -> np.ndarray:
    """Read factors; every row has some, since it has a pair."""
    read = pl.read_parquet(folder / "*.parquet").sort("id")
    assert read["id"].to_list() == list(range(rows))
    return read["features"].cast(pl.Array(pl.Float32, factors)).to_numpy()
