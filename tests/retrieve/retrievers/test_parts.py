"""Shops side by side: nobody is given what is of another part than theirs."""

import logging
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from stages.core import tables
from stages.core.params import READS_HISTORY, Fit, RetrieverName
from stages.retrieve.retrievers import (
    KnowsItems,
    Parts,
    TrainingData,
    class_of,
    folders_of,
    load_retriever,
    make_retriever,
)
from stages.retrieve.retrievers.base import LEARNS_FROM, Restrictable
from stages.retrieve.retrievers.parts import of_queries
from tests.retrieve.conftest import (
    EVERY,
    IN_PARTS,
    OTHER,
    OWN,
    TWINS_ASKED,
    USER,
    Case,
    beside,
    documents,
    events,
    items,
    parts_of,
    queries,
    shoppers,
    vectors,
)

EACH_IN_PARTS = [name + IN_PARTS for name in EVERY]
APART: list[RetrieverName] = ["popular", "item_knn", "als", "content", "bm25"]
"""Those that are fitted on each part alone."""


def world() -> TrainingData:
    return beside(TrainingData(documents(), vectors(), events=events(), items=items()))


def of_other(asked: pl.DataFrame) -> pl.DataFrame:
    """The same questions by the other shop's user, about its items."""
    renamed = pl.struct(
        pl.concat_str(pl.lit(OTHER), pl.element().struct.field("item_id")).alias("item_id"),
        pl.element().struct.field("timestamp"),
    )
    return asked.with_columns(
        query_id=pl.concat_str(pl.lit("o"), "query_id"),
        user_id=pl.concat_str(pl.lit(OTHER), "user_id"),
        history=pl.col("history").list.eval(renamed).cast(tables.HISTORY),
    )


def shop_of(found: pl.DataFrame) -> pl.Series:
    return found["item_id"].str.starts_with(OTHER)


# Whose items are found ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", EACH_IN_PARTS, indirect=True)
def test_nobody_is_given_the_other_shop_s_items(case: Case) -> None:
    """The other shop has five times the events, all of them later."""
    mine = case.ask([*OWN, TWINS_ASKED])
    found = case.load().retrieve(pl.concat([mine, of_other(mine)]), 100)
    assert found["query_id"].n_unique() == 2 * mine.height
    assert (shop_of(found) == found["query_id"].str.starts_with("o")).all()


@pytest.mark.parametrize("case", [name + IN_PARTS for name in READS_HISTORY], indirect=True)
def test_who_is_not_known_is_answered_by_the_shop_of_the_history(case: Case) -> None:
    mine = shoppers(OWN)
    both = pl.concat([mine, of_other(mine)]).with_columns(user_id=pl.lit(None, pl.String))
    found = case.fitted.retrieve(both, 100)
    assert found["query_id"].n_unique() == both.height
    assert (shop_of(found) == found["query_id"].str.starts_with("o")).all()


@pytest.mark.parametrize("name", APART)
def test_a_part_is_answered_as_if_it_were_alone(name: RetrieverName) -> None:
    asked = (queries if name == "bm25" else shoppers)([*OWN, TWINS_ASKED])
    asked = asked.with_columns(user_id=pl.lit(USER))
    alone = make_retriever(name, Fit())
    alone.fit(TrainingData(documents(), vectors(), events=events(), items=items()))
    data = world()
    made = make_retriever(name, Fit(), parts=parts_of(data))
    made.fit(data)
    assert made.retrieve(asked, 5).equals(alone.retrieve(asked, 5))


def test_without_parts_the_busier_shop_is_everybody_s() -> None:
    made = make_retriever("popular", Fit())
    made.fit(world())
    assert shop_of(made.retrieve(shoppers(OWN), 5)).all()


# Who is asking -----------------------------------------------------------------------------------


def test_who_asks_is_of_their_user_s_part_else_of_their_newest_item_s() -> None:
    known = Parts(
        pl.DataFrame({"item_id": ["a1", "a2", "b1"], "part": ["a", "a", "b"]}),
        pl.DataFrame({"user_id": ["ann", "bob"], "part": ["a", "b"]}),
    )
    rows: list[tuple[str | None, list[str], str | None]] = [
        ("ann", ["b1"], "a"),
        ("bob", [], "b"),
        ("cid", ["b1", "a1"], "a"),
        (None, ["a1", "b1"], "b"),
        (None, ["a2", "unheard of"], "a"),
        ("cid", ["unheard of"], None),
        (None, [], None),
    ]
    users, histories, parts = (list(column) for column in zip(*rows, strict=True))
    asked = queries([None] * len(rows), histories).with_columns(
        user_id=pl.Series(users, dtype=pl.String)
    )
    assert of_queries(known, asked).to_list() == parts
    assert of_queries(known, asked.clear()).to_list() == []


@pytest.mark.parametrize(
    ("of_items", "of_users"),
    [(["a", "b"], None), (None, ["a", "b"]), (["a", "a"], ["a", "a"]), (["a", None], ["a", "a"])],
    ids=["items alone", "users alone", "one part", "one and none"],
)
def test_a_shop_is_one_where_not_both_tables_tell_of_parts(
    of_items: list[str] | None, of_users: list[str] | None
) -> None:
    tables_ = [
        pl.DataFrame({key: ["x", "y"]} | ({"part": parts} if parts else {}))
        for key, parts in (("item_id", of_items), ("user_id", of_users))
    ]
    assert Parts.of(*tables_) is None


def test_what_names_no_part_is_not_found() -> None:
    data = world()
    assert data.items is not None
    first = pl.col("item_id") == "i00"
    data = replace(data, items=data.items.with_columns(part=pl.when(~first).then(pl.col("part"))))
    made = make_retriever("bm25", Fit(), parts=parts_of(data))
    made.fit(data)
    found = made.retrieve(queries([OWN[0]]).with_columns(user_id=pl.lit(USER)), 3)
    assert "i00" not in found["item_id"]


# Of whom nothing is known ------------------------------------------------------------------------


def popular_of(chosen: dict[str, int]) -> TrainingData:
    """Each item so many times chosen, all at one moment; `b` in a name says whose it is."""
    rows = [(f"u{item[0]}", item) for item, times in chosen.items() for _ in range(times)]
    bought = pl.DataFrame(rows, ["user_id", "item_id"], orient="row").with_columns(
        timestamp=pl.lit(events()["timestamp"][0], tables.TIME), event=pl.lit("purchase")
    )
    listed = pl.DataFrame({"item_id": sorted(chosen)}).with_columns(
        part=pl.col("item_id").str.slice(0, 1)
    )
    users = pl.DataFrame({"user_id": ["ua", "ub"], "part": ["a", "b"]})
    blank = pl.DataFrame(schema={"item_id": pl.String, "text": pl.String})
    return TrainingData(blank, events=bought, items=listed, users=users)


def test_of_whom_nothing_is_known_lists_are_taken_from_in_turn() -> None:
    data = popular_of({"a1": 8, "a2": 6, "a3": 5, "b1": 2, "b2": 1})
    made = make_retriever("popular", Fit(), parts=parts_of(data))
    made.fit(data)
    found = made.retrieve(queries([None]), 4)
    assert found["item_id"].to_list() == ["a1", "b1", "a2", "b2"]
    assert found["rank"].to_list() == [1, 2, 3, 4]
    assert found["score"].to_list() == [8, 8, 4, 4]
    assert made.retrieve(queries([None]), 9)["item_id"].to_list() == [*found["item_id"], "a3"]
    assert made.retrieve(queries([None]), 1)["item_id"].to_list() == ["a1"]


@pytest.mark.parametrize("case", [f"dense_base{IN_PARTS}", f"sparse{IN_PARTS}"], indirect=True)
def test_scores_of_what_was_fitted_together_are_compared(case: Case) -> None:
    asked = queries([OWN[3]])
    found = case.fitted.retrieve(asked, 2).sort("rank")
    assert found["item_id"].to_list() == ["i03", f"{OTHER}i03"]
    assert found["rank"].to_list() == [1, 2]
    known = case.fitted.retrieve(asked.with_columns(user_id=pl.lit(USER)), 1)
    assert found["score"].to_list() == known["score"].to_list() * 2


# Parts with nothing, and what is kept ------------------------------------------------------------


@pytest.mark.parametrize("name", APART)
def test_a_part_with_nothing_to_learn_from_finds_nothing_and_says_so(
    name: RetrieverName, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, first = world(), ~pl.col("item_id").str.starts_with(OTHER)
    assert data.events is not None
    assert data.embeddings is not None
    bare = replace(
        data,
        documents=data.documents.filter(first),
        embeddings=data.embeddings.filter(first),
        events=data.events.filter(first),
    )
    made = make_retriever(name, Fit(), parts=parts_of(data))
    with caplog.at_level(logging.WARNING):
        made.fit(bare)
    assert f"{name} finds nothing in part b: it has no {' or '.join(LEARNS_FROM[name])}" in (
        caplog.text
    )
    (tmp_path / "train").mkdir()
    made.save(tmp_path / "train")
    parts_of(data).save(tmp_path / "parts")
    mine = (queries if name == "bm25" else shoppers)(OWN).with_columns(user_id=pl.lit(USER))
    for one in (made, load_retriever(name, tmp_path / "train")):
        assert one.retrieve(of_other(mine), 5).is_empty()
        assert one.retrieve(mine, 5)["query_id"].n_unique() == mine.height
        nobody = mine.with_columns(user_id=pl.lit(None, pl.String))
        assert not one.retrieve(nobody, 5).is_empty()
    assert folders_of(tmp_path / "train") == [tmp_path / "train" / "a"]


@pytest.mark.parametrize("case", EACH_IN_PARTS, indirect=True)
def test_what_is_fitted_on_each_part_lies_in_a_folder_of_its_own(case: Case) -> None:
    train = case.folder / "train"
    apart = not issubclass(class_of(case.name), Restrictable)
    assert apart == (case.name in APART)
    assert folders_of(train) == ([train / "a", train / "b"] if apart else [train])


@pytest.mark.parametrize("name", EVERY)
def test_a_shop_without_parts_is_kept_as_ever(name: RetrieverName, tmp_path: Path) -> None:
    assert folders_of(tmp_path) == [tmp_path]
    assert type(make_retriever(name, Fit())) is class_of(name)


@pytest.mark.parametrize("case", EACH_IN_PARTS, indirect=True)
def test_what_goes_with_an_item_is_of_its_shop(case: Case) -> None:
    made = case.load()
    assert isinstance(made, KnowsItems) == issubclass(class_of(case.name), KnowsItems)
    if isinstance(made, KnowsItems):
        assert made.knows("c03")
        assert made.knows(f"{OTHER}c03")
        assert not made.knows("unheard of")
        for item in ("c03", f"{OTHER}c03"):
            found = made.retrieve(queries([None], [[item]]), 20)
            assert found.height
            assert (shop_of(found) == item.startswith(OTHER)).all()
