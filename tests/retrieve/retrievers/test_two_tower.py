"""Two towers in a shop of two groups: new items, new users, and what must not matter."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Popular, TwoTower
from stages.retrieve.retrievers import TrainingData
from stages.retrieve.retrievers.popular import PopularRetriever
from stages.retrieve.retrievers.two_tower import TwoTowerRetriever
from tests.retrieve import conftest
from tests.retrieve.conftest import START, queries
from tests.retrieve.retrievers.test_als import checkerboard as chosen_by_number
from tests.retrieve.retrievers.test_als import events

SIDE = 20
QUICK: dict[str, Any] = {"dim": 16, "hidden": [32], "min_steps": 150, "lr": 5e-3}


def items(groups: Mapping[str, str | None]) -> pl.DataFrame:
    blank = dict.fromkeys(tables.ITEMS.columns) | {"features": [], "categories": []}
    rows = [blank | {"item_id": item, "brand": of} for item, of in sorted(groups.items())]
    return pl.DataFrame(rows, tables.ITEMS.columns)


def users(groups: Mapping[str, str | None]) -> pl.DataFrame:
    return pl.DataFrame({"user_id": list(groups), "club": list(groups.values())}).sort("user_id")


ITEMS = {f"i{n:02d}": ("even", "odd")[n % 2] for n in range(SIDE)} | {"i-new": "odd"}
USERS = {f"u{n:02d}": ("even", "odd")[n % 2] for n in range(SIDE)} | {"u-new": "odd"}
ODD = {item for item, of in ITEMS.items() if of == "odd"}


def shop(**other: Any) -> TrainingData:
    """A checkerboard in which items are known by a brand and users by a club."""
    known = {"events": events(chosen_by_number(SIDE)), "items": items(ITEMS), "users": users(USERS)}
    return TrainingData(pl.DataFrame(), **(known | other))


def fitted(data: TrainingData, store: Path, seed: int = 3, **params: Any) -> TwoTowerRetriever:
    made = TwoTowerRetriever(TwoTower.model_validate(QUICK | params), seed, store)
    made.fit(data)
    return made


def asked_by(users: list[str | None], histories: list[list[str]] | None = None) -> pl.DataFrame:
    made = queries([None] * len(users), histories)
    return made.with_columns(user_id=pl.Series(users, dtype=pl.String))


def listed(made: TwoTowerRetriever, query: pl.DataFrame, k: int) -> list[str]:
    return made.retrieve(query, k).sort("query_id", "rank")["item_id"].to_list()


def past(user: int) -> list[str]:
    return [item for of, item in chosen_by_number(SIDE) if of == f"u{user:02d}"]


@pytest.mark.parametrize("training", ["in_batch", "pointwise"])
@pytest.mark.parametrize("mix", [{}, {"hard": 0.2}], ids=["plain", "hard"])
def test_the_withheld_item_of_a_checkerboard_comes_first(
    training: str, mix: dict[str, float], tmp_path: Path
) -> None:
    stock = {item: of for item, of in ITEMS.items() if item != "i-new"}
    made = fitted(shop(items=items(stock)), tmp_path, training=training, **mix)
    asked = asked_by([f"u{n:02d}" for n in range(SIDE)], [past(n) for n in range(SIDE)])
    assert listed(made, asked, 1) == [f"i{n:02d}" for n in range(SIDE)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TwoTowerRetriever:
    return fitted(shop(), tmp_path_factory.mktemp("store"))


def test_a_new_item_is_found_by_its_attributes(made: TwoTowerRetriever) -> None:
    found = made.retrieve(asked_by([None, None], [["i01"], ["i02"]]), SIDE // 2 - 1)
    assert "i-new" in found.filter(query_id="q00")["item_id"]
    assert "i-new" not in found.filter(query_id="q01")["item_id"]


def test_someone_new_is_known_by_the_history(made: TwoTowerRetriever) -> None:
    asked = asked_by(["u-nobody"], [["i03", "i07"]])
    assert set(listed(made, asked, len(ODD) - 2)) == ODD - {"i03", "i07"}


def test_someone_new_is_known_by_attributes(made: TwoTowerRetriever) -> None:
    assert set(listed(made, asked_by(["u-new"]), len(ODD))) == ODD


def test_who_is_not_known_at_all_is_answered(made: TwoTowerRetriever) -> None:
    found = made.retrieve(asked_by([None, "u-nobody"], [[], ["gone"]]), 100)
    tables.check(found, tables.CANDIDATES)
    assert found.group_by("query_id").len()["len"].to_list() == [len(ITEMS)] * 2
    first, second = (found.filter(query_id=name).drop("query_id") for name in ("q00", "q01"))
    assert first.equals(second)


def test_items_of_one_description_go_by_id(made: TwoTowerRetriever) -> None:
    assert listed(made, asked_by([None], [["i01"]]), len(ODD) - 1) == sorted(ODD - {"i01"})


def test_what_one_has_comes_again_only_if_it_may(tmp_path: Path) -> None:
    again = fitted(shop(), tmp_path, repeat=True)
    assert set(listed(again, asked_by(["u01"], [past(1)]), len(ODD))) == ODD


@pytest.mark.parametrize(
    "clubs", [USERS | {"u-none": None, "u02": "rare"}, None], ids=["clubs", "no clubs"]
)
def test_saved_and_loaded_it_answers_the_same(
    clubs: dict[str, str | None] | None, tmp_path: Path
) -> None:
    people = None if clubs is None else users(clubs)
    made = fitted(shop(users=people), tmp_path / "store", min_count=9)
    made.save(tmp_path)
    loaded = TwoTowerRetriever.load(tmp_path)
    who, had = ["u-new", "u00", None, "u03", "u-none"], [[], past(0), ["i04"], ["i05", "gone"], []]
    asked = asked_by(who, had)
    found = made.retrieve(asked, 9)
    assert loaded.retrieve(asked, 9).equals(found)
    # The unknown has been learned of the one rare club, and what is missing says nothing.
    nobody = made.retrieve(asked_by([None]), 9)["score"].to_list()
    same = found.filter(query_id="q04")["score"].to_list() == nobody
    assert same == (clubs is None)
    (tmp_path / "again").mkdir()
    loaded.save(tmp_path / "again")
    files = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert len(files) == 9
    for name in files:
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_the_curve_falls_and_is_saved(made: TwoTowerRetriever, tmp_path: Path) -> None:
    made.save(tmp_path)
    curve = pl.read_csv(tmp_path / "curve.csv")
    assert curve.columns == ["epoch", "step", "loss", "mrr"]
    assert curve["epoch"].to_list() == list(range(1, QUICK["min_steps"] + 1))
    assert curve["step"].equals(curve["epoch"].alias("step"))  # An epoch is one batch.
    assert curve["loss"][-1] < 0.8 * curve["loss"][0]


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        fitted(shop(), tmp_path / "store", seed, min_steps=20).save(tmp_path / name)
    a, b, c = (tmp_path / name for name in ("a", "b", "c"))
    for path in a.iterdir():
        assert path.read_bytes() == (b / path.name).read_bytes(), path.name
    assert (a / "towers.npz").read_bytes() != (c / "towers.npz").read_bytes()


def test_texts_and_pictures_tell_items_apart(tmp_path: Path) -> None:
    ids = sorted(ITEMS)
    direction = {"even": [1.0, 0.0, 0.0], "odd": [0.0, 1.0, 0.0]}
    vectors = pl.DataFrame(
        {"item_id": ids, "vector": np.array([direction[ITEMS[item]] for item in ids], np.float32)}
    )
    for name in ("embeddings", "pictures"):
        nameless = items(dict.fromkeys(ITEMS))
        made = fitted(shop(items=nameless, users=None, **{name: vectors}), tmp_path)
        expected = ODD - {"i03"}
        found = listed(made, asked_by([None], [["i03"]]), len(expected))
        assert set(found) == expected, name


def test_vectors_may_be_longer_than_those_of_the_towers(tmp_path: Path) -> None:
    vectors = np.random.default_rng(6).normal(size=(len(ITEMS), 40)).astype(np.float32)
    texts = pl.DataFrame({"item_id": sorted(ITEMS), "vector": vectors})
    made = fitted(shop(embeddings=texts), tmp_path / "store", min_steps=10)
    made.save(tmp_path)
    asked = asked_by([None], [["i03"]])
    expected = listed(made, asked, len(ITEMS))
    assert len(expected) == len(ITEMS) - 1
    assert listed(TwoTowerRetriever.load(tmp_path), asked, len(ITEMS)) == expected


def test_ids_tell_items_apart_where_they_may(tmp_path: Path) -> None:
    rows = np.random.default_rng(8).permutation(chosen_by_number(SIDE)).tolist()
    nothing = shop(events=events(rows), items=None, users=None)
    made = fitted(nothing, tmp_path, item_ids=True)
    asked = asked_by([None] * SIDE, [past(n) for n in range(SIDE)])
    assert listed(made, asked, 1) == [f"i{n:02d}" for n in range(SIDE)]
    with pytest.raises(UserError, match=r"two_tower: nothing is known of items.*item_ids"):
        fitted(nothing, tmp_path)


def test_a_new_item_is_found_by_its_attributes_among_items_known_by_id(tmp_path: Path) -> None:
    made = fitted(shop(), tmp_path, item_ids=True, id_dropout=0.3)
    found = made.retrieve(asked_by([None, None], [past(1), past(2)]), 100)
    of = dict(
        zip(zip(found["query_id"], found["item_id"], strict=True), found["score"], strict=True)
    )
    even = [score for (query, item), score in of.items() if query == "q00" and item not in ODD]
    assert of["q00", "i-new"] > max(even)
    assert of["q01", "i-new"] < of["q01", "i02"]


def test_ids_tell_users_apart_where_they_may(tmp_path: Path) -> None:
    one_event_each = events([(f"u{n:02d}", f"i{n:02d}") for n in range(SIDE)] * 2)
    data = shop(events=one_event_each, users=None)
    found = listed(fitted(data, tmp_path, user_ids=True), asked_by(["u01", "u02"]), len(ODD))
    assert set(found[: len(ODD)]) == ODD
    assert not set(found[len(ODD) :][: SIDE // 2]) & ODD


def test_what_was_shown_and_passed_over_is_held_against_it(tmp_path: Path) -> None:
    """All were shown the items of brand dull, besides what they chose, and clicked none."""
    dull = {f"i-dull{n}": "dull" for n in range(3)}
    plain = {f"i-plain{n}": "plain" for n in range(3)}
    shown = [
        dict.fromkeys(tables.IMPRESSIONS.columns)
        | {"impression_id": f"{user}{item}", "user_id": user, "item_id": item, "click": click}
        for user in USERS
        for item, click in [*dict.fromkeys(dull, 0).items(), ("i00", 1)]
    ]
    impressions = pl.DataFrame(shown, tables.IMPRESSIONS.columns).with_columns(timestamp=START)
    data = shop(items=items(ITEMS | dull | plain), impressions=impressions)
    for training in ("in_batch", "pointwise"):
        ranks = {}
        for share in (0.0, 0.5):
            made = fitted(data, tmp_path, training=training, shown=share)
            found = made.retrieve(asked_by(["u01"], [past(1)]), 100)
            scores = dict(zip(found["item_id"], found["score"], strict=True))
            ranks[share] = scores["i-plain0"] - scores["i-dull0"]
        assert ranks[0.5] > max(0.2, ranks[0.0]), training


def test_who_passed_an_item_over_is_saved(tmp_path: Path) -> None:
    """By number and digest; not who clicked or chose it, nor what nobody has heard of."""
    rows = [
        *[("u01", "i02", 0), ("u03", "i02", 0), ("u01", "i02", 0), ("u-new", "i-new", 0)],
        *[("u05", "i02", 1), ("u04", "i02", 0), ("u01", "unheard", 0), ("nobody", "i02", 0)],
    ]
    assert "i02" in past(4)
    blank = dict.fromkeys(tables.IMPRESSIONS.columns)
    shown = [
        blank | {"impression_id": f"s{n}", "user_id": user, "item_id": item, "click": click}
        for n, (user, item, click) in enumerate(rows)
    ]
    impressions = pl.DataFrame(shown, tables.IMPRESSIONS.columns).with_columns(timestamp=START)
    data = shop(impressions=impressions)
    fitted(data, tmp_path / "store", shown=0.5, min_steps=1, epochs=1).save(tmp_path)
    found = pl.read_parquet(tmp_path / "shown.parquet")
    one, three, new = (
        int.from_bytes(hashlib.blake2b(user.encode(), digest_size=5).digest())
        for user in ("u01", "u03", "u-new")
    )
    due = [("i-new", 1, new), ("i02", 2, one + three)]
    assert found.rows() == due
    loaded = TwoTowerRetriever.load(tmp_path)
    (tmp_path / "again").mkdir()
    loaded.save(tmp_path / "again")
    assert pl.read_parquet(tmp_path / "again" / "shown.parquet").equals(found)
    loaded.only(pl.Series(["i02", "i03"])).save(tmp_path / "again")
    assert pl.read_parquet(tmp_path / "again" / "shown.parquet").rows() == due[1:]
    fitted(data, tmp_path / "store", min_steps=1, epochs=1).save(tmp_path)
    assert pl.read_parquet(tmp_path / "shown.parquet").equals(found.clear())


def tastes(names: list[str]) -> list[tuple[str, str]]:
    """300 users who choose eight items, mostly of one taste, those of low number more often."""
    rng = np.random.default_rng(11)
    taste = rng.integers(6, size=300)
    weights = 1 / np.arange(1, 61) ** 0.5
    rows = []
    for user in range(300):
        near = weights * np.where(np.arange(60) % 6 == taste[user], 12, 1)
        drawn = rng.choice(60, 8, replace=False, p=near / near.sum())
        rows += [(f"u{user:03d}", names[item]) for item in drawn]
    return rows


def test_nothing_leans_on_the_order_of_ids(tmp_path: Path) -> None:
    ids = [f"i{n:02d}" for n in range(60)]
    figures = []
    for place, names in enumerate((ids, np.random.default_rng(5).permutation(ids).tolist())):
        rows = tastes(names)
        held_out = rows[7::8]
        known = [row for n, row in enumerate(rows) if n % 8 != 7]
        data = TrainingData(pl.DataFrame(), events=events(known))
        made = fitted(data, tmp_path, item_ids=True, seed=place)
        histories = [[item for _, item in known[n : n + 7]] for n in range(0, len(known), 7)]
        found = made.retrieve(queries([None] * 300, histories), 10)
        names_of = dict(zip([f"q{n:02d}" for n in range(300)], held_out, strict=True))
        hits = [
            item == names_of[query][1]
            for query, item in zip(found["query_id"], found["item_id"], strict=True)
        ]
        figures.append(sum(hits) / 300)
    assert min(figures) > 0.3
    assert abs(figures[0] - figures[1]) < 0.05


@pytest.mark.parametrize("item_ids", [False, True], ids=["without ids", "by id too"])
@pytest.mark.parametrize("said", ["brand", "text"])
def test_new_items_are_found_by_what_is_said_of_them(
    said: str, item_ids: bool, tmp_path: Path
) -> None:
    """Of 60 items that are chosen and 30 that nobody chose yet, six tastes of each."""
    old, new = ([f"{of}{n:02d}" for n in range(count)] for of, count in (("i", 60), ("n", 30)))
    taste = {item: int(item[1:]) % 6 for item in old + new}
    rows = tastes(old)
    if said == "brand":
        stock, texts = items({item: f"b{of}" for item, of in taste.items()}), None
    else:  # In a narrow cone, as encoders put them.
        noise = np.random.default_rng(2).normal(scale=0.5, size=(len(taste), 12))
        vectors = np.float32(np.eye(12)[list(taste.values())] + noise + 3)
        stock = items(dict.fromkeys(taste))
        texts = pl.DataFrame({"item_id": list(taste), "vector": vectors})
    data = TrainingData(pl.DataFrame(), texts, events=events(rows), items=stock)
    histories = [[item for _, item in rows[n : n + 8]] for n in range(0, len(rows), 8)]
    liked = [np.bincount([taste[item] for item in past]).argmax() for past in histories]
    asked = queries([None] * len(histories), histories)

    def recall(made: TwoTowerRetriever | PopularRetriever) -> float:
        found = made.retrieve(asked, 20).filter(pl.col("item_id").str.starts_with("n"))
        of = dict(zip(asked["query_id"], liked, strict=True))
        hits = [of[row["query_id"]] == taste[row["item_id"]] for row in found.to_dicts()]
        return sum(hits) / (5 * len(histories))

    popular = PopularRetriever(Popular())
    popular.fit(data)
    chance = 20 / (len(taste) - 8)
    figure = recall(fitted(data, tmp_path, item_ids=item_ids))
    assert figure > 2 * max(chance, recall(popular))


def test_without_events_it_says_so() -> None:
    with pytest.raises(UserError, match="two_tower needs events"):
        TwoTowerRetriever(TwoTower()).fit(TrainingData(pl.DataFrame()))


def test_without_any_row_it_answers_nothing_known(tmp_path: Path) -> None:
    made = fitted(shop(events=events([("u00", "i00")]).clear()), tmp_path)
    assert len(listed(made, asked_by([None]), 100)) == len(ITEMS)
    assert made.retrieve(asked_by([]), 5).is_empty()


def test_shares_must_fit_together() -> None:
    with pytest.raises(ValueError, match=r"hard \+ shown"):
        TwoTower(hard=0.6, shown=0.6)


def test_the_history_is_read_up_to_its_newest(tmp_path: Path) -> None:
    made = fitted(shop(users=None), tmp_path, max_history=2)
    older = asked_by([None, None], [["i01", "i02", "i04"], ["i02", "i04"]])
    found = made.retrieve(older, 3).sort("query_id", "rank")["score"].to_list()
    assert found[:3] == found[3:]


def test_a_moment_counts_by_its_age(tmp_path: Path) -> None:
    made = fitted(shop(users=None), tmp_path, recency=0.2)
    asked = asked_by([None], [["i01", "i02"]]).with_columns(
        history=pl.lit(
            [
                {"item_id": "i01", "timestamp": START},
                {"item_id": "i02", "timestamp": START + timedelta(days=1)},
            ],
            tables.HISTORY,
        )
    )
    assert not set(listed(made, asked, 3)) & ODD


def test_what_nothing_is_said_of_and_nobody_chose_is_not_there(tmp_path: Path) -> None:
    blank = (
        conftest.items()
        .filter(item_id="i00")
        .with_columns(
            item_id=pl.lit("unheard"), brand=pl.lit(None, pl.String), categories=pl.lit([])
        )
    )
    made = TwoTowerRetriever(TwoTower(epochs=1, min_steps=1), store=tmp_path)
    catalogue = pl.concat(
        [conftest.items(), blank.select(conftest.items().columns).cast(conftest.items().schema)]
    )
    made.fit(TrainingData(conftest.documents(), events=conftest.events(), items=catalogue))
    found = set(made.retrieve(conftest.queries([None]), 100)["item_id"])
    assert "unheard" not in found
    assert set(conftest.items()["item_id"]) <= found
    made.save(tmp_path)
    drawn = dict(pl.read_parquet(tmp_path / "items.parquet").iter_rows())
    counts = dict(conftest.events().group_by("item_id").len().iter_rows())
    assert drawn == dict.fromkeys(found, 0) | counts


def test_a_history_of_which_only_the_oldest_is_known_is_answered(tmp_path: Path) -> None:
    """However many moments lie between what is known and the query."""
    made = fitted(shop(), tmp_path)
    alone = listed(made, asked_by([None], [["i03"]]), 5)
    query = asked_by([None], [["i03"]])
    past = [{"item_id": "i03", "timestamp": START}]
    past += [{"item_id": f"n{n}", "timestamp": START + timedelta(hours=n + 1)} for n in range(700)]
    query = query.with_columns(history=pl.Series([past], dtype=query.schema["history"]))
    assert listed(made, query, 5) == alone
