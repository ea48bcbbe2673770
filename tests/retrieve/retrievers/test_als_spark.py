"""ALS by Spark, for real: on a local master, in a JVM of its own.

WINNOW_SPARK=1, which continuous integration sets, makes a missing Java or pyspark a failure.
"""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.core.log import UserError
from stages.core.params import Als
from stages.retrieve.retrievers import TrainingData
from stages.retrieve.retrievers.als import AlsRetriever
from stages.retrieve.retrievers.als_spark import spark_factors
from stages.retrieve.retrievers.choices import Choices, choices
from tests.retrieve.conftest import queries
from tests.retrieve.retrievers.test_als import checkerboard, events

PARAMS = Als(backend="spark", factors=2, regularization=0.01, iterations=10, repeat=True)
ROWS = [*checkerboard(), *((user, "twin") for user, item in checkerboard() if item == "i04")]
"""A checkerboard in which whoever chose i04 chose its twin."""

needs_spark = [
    pytest.mark.spark,
    pytest.mark.slow,
    pytest.mark.skipif(
        "WINNOW_SPARK" not in os.environ
        and (find_spec("pyspark") is None or shutil.which("java") is None),
        reason="needs Java 17 and the extra `spark`",
    ),
]


@pytest.fixture(scope="module")
def chosen() -> Choices:
    return choices(events(ROWS), PARAMS.weights.model_dump())


@pytest.fixture(scope="module")
def trained(
    chosen: Choices, tmp_path_factory: pytest.TempPathFactory
) -> tuple[np.ndarray, np.ndarray]:
    """Factors of users and items; nothing is left where Spark kept its files."""
    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        users, items = spark_factors(chosen, PARAMS, 2, 3)
    assert list(folder.iterdir()) == []
    return users, items


class TestSpark:
    pytestmark = needs_spark

    def test_a_history_folded_in_is_the_user_that_was_trained(
        self, chosen: Choices, trained: tuple[np.ndarray, np.ndarray]
    ) -> None:
        users, items = trained
        made = AlsRetriever.of_factors(PARAMS, chosen.item_ids, items, chosen.mean_weight)
        pairs = (chosen.pairs[name].to_numpy() for name in ("user", "item", "weight"))
        assert made.fold_in(*pairs) == pytest.approx(users, abs=1e-5)
        as_in_the_paper = AlsRetriever.of_factors(
            PARAMS.model_copy(update={"backend": "implicit"}), chosen.item_ids, items, 5.0
        )
        pairs = (chosen.pairs[name].to_numpy() for name in ("user", "item", "weight"))
        assert np.abs(as_in_the_paper.fold_in(*pairs) - users).max() > 1e-3

    def test_scores_of_a_whole_history_are_those_of_the_trained_user(
        self, chosen: Choices, trained: tuple[np.ndarray, np.ndarray]
    ) -> None:
        users, items = trained
        made = AlsRetriever.of_factors(PARAMS, chosen.item_ids, items, chosen.mean_weight)
        who = chosen.user_ids.to_list()
        past = [[item for u, item in ROWS if u == user] for user in who]
        found = made.retrieve(queries([None] * len(who), past), len(items))
        table = found.pivot("item_id", index="query_id", values="score").sort("query_id")
        scores = table.select(chosen.item_ids.to_list()).to_numpy()
        assert scores == pytest.approx(users @ items.T, abs=1e-5)

    def test_the_retriever_trains_the_same_factors_again_in_silence(
        self,
        trained: tuple[np.ndarray, np.ndarray],
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        made = AlsRetriever(PARAMS.model_copy(update={"repeat": False}), seed=3)
        made.fit(TrainingData(pl.DataFrame(), events=events(ROWS)))
        said = capfd.readouterr()
        assert (said.out, said.err) == ("", "")
        made.save(tmp_path)
        assert np.load(tmp_path / "factors.npy").tobytes() == trained[1].tobytes()
        past = [[item for u, item in ROWS if u == f"u{n:02d}"] for n in range(20)]
        asked = queries([None] * 20, past)
        found = AlsRetriever.load(tmp_path).retrieve(asked, 1)
        assert found.equals(made.retrieve(asked, 1))
        expected = [{f"i{n:02d}"} | ({"twin"} if n == 4 else set()) for n in range(20)]
        assert all(
            item in withheld for item, withheld in zip(found["item_id"], expected, strict=True)
        )

    def test_equal_items_have_equal_factors(
        self, chosen: Choices, trained: tuple[np.ndarray, np.ndarray]
    ) -> None:
        at = chosen.item_ids.to_list()
        one, other = trained[1][[at.index("i04"), at.index("twin")]]
        assert one == pytest.approx(other, abs=1e-6)

    def test_what_spark_says_of_its_failure_is_told(self, chosen: Choices) -> None:
        wrong = PARAMS.model_copy(update={"spark_master": "nowhere"})
        with pytest.raises(UserError, match=r"Spark on 'nowhere' failed: .*Master must"):
            spark_factors(chosen, wrong, 2, 3)


def test_without_java_the_package_is_named(
    chosen: Choices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(UserError, match="openjdk-17-jre-headless"):
        spark_factors(chosen, PARAMS, 2, 3)
