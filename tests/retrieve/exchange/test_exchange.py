"""Interactions out, factors in: the round trip, both forms of factors, and what is refused."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Als, Fit
from stages.retrieve.exchange import export_interactions, import_factors
from stages.retrieve.exchange.layout import Exchange
from stages.retrieve.retrievers import Parts, TrainingData, load_retriever, make_retriever
from stages.retrieve.retrievers.als import AlsRetriever
from tests.retrieve.conftest import START, queries
from tests.retrieve.retrievers.test_als import checkerboard

ALS = {"factors": 2, "regularization": 0.01, "alpha": 1.5, "iterations": 8}
AWKWARD = {"i00": '0,"a"', "i02": "007", "i04": " ends with a space ", "i06": "tab\tand 日本"}
"""Ids that a careless writer or reader of CSV would change."""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with params.yaml and events.parquet, the last of which are not the window's."""
    rows = [(user, AWKWARD.get(item, item)) for user, item in checkerboard()]
    made = pl.DataFrame(
        [
            {
                "event_id": f"e{n:04d}",
                "user_id": user,
                "item_id": item,
                "timestamp": START + timedelta(hours=n),
                "event": "purchase",
                "value": 1.0,
                "title": None,
                "text": None,
                "split": "rank" if n % 3 else "fit",
            }
            for n, (user, item) in enumerate([*rows, ("later", "unseen")])
        ],
        tables.SPLIT_EVENTS.columns,
    )
    last = pl.when(pl.col("user_id") == "later").then(pl.lit("test")).otherwise("split")
    made = made.with_columns(split=last.cast(tables.SPLIT_EVENTS.columns["split"]))
    tables.write(made, tmp_path / "events.parquet", tables.SPLIT_EVENTS)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"seed": 3, "fit": {"als": ALS}}))
    return tmp_path


@pytest.fixture
def exported(shop: Path) -> Exchange:
    folder = shop / "exchange"
    export_interactions.main(folder, "train", shop / "params.yaml", shop / "events.parquet")
    return Exchange(folder)


def train_elsewhere(exchange: Exchange) -> tuple[np.ndarray, np.ndarray]:
    """Factors of users and items by `implicit` on interactions.csv, knowing numbers only."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy import sparse

    user, item, weight = pl.read_csv(exchange.interactions).to_numpy().T
    matrix = sparse.csr_matrix(
        ((1 + ALS["alpha"] * weight).astype(np.float32), (user.astype(int), item.astype(int)))
    )
    model = AlternatingLeastSquares(2, 0.01, 1.0, use_cg=False, iterations=8, random_state=3)
    model.fit(matrix, show_progress=False)
    return model.user_factors, model.item_factors


def write_wide(path: Path, factors: np.ndarray, header: bool = True) -> None:
    names = ["id", *(f"f{n}" for n in range(factors.shape[1]))]
    rows = [names] if header else []
    rows += [[str(number), *map(str, row)] for number, row in enumerate(factors)]
    path.write_text("".join(",".join(row) + "\n" for row in rows))


def write_arrays(path: Path, factors: np.ndarray, header: bool = True) -> None:
    rows = [f'{number},"{row.tolist()}"' for number, row in enumerate(factors)]
    path.write_text("\n".join(["id,features", *rows] if header else rows))


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("write", [write_wide, write_arrays])
def test_what_comes_back_answers_as_if_it_had_been_fitted_here(
    shop: Path, exported: Exchange, write, header: bool, caplog: pytest.LogCaptureFixture
) -> None:
    users, items = train_elsewhere(exported)
    write(shop / "items.csv", items, header)
    write(shop / "users.csv", users, header)
    import_factors.main(
        exported.folder,
        shop / "items.csv",
        shop / "users.csv",
        shop / "params.yaml",
        shop / "retrievers",
    )
    loaded = load_retriever("als", shop / "retrievers" / "als" / "train")
    direct = AlsRetriever(Als.model_validate(ALS), seed=3)
    events = tables.read(shop / "events.parquet", tables.SPLIT_EVENTS)
    direct.fit(TrainingData(pl.DataFrame(), events=events.filter(pl.col("split") != "test")))
    past = [[AWKWARD.get(item, item) for u, item in checkerboard() if u == "u04"], ["i01"]]
    asked = queries([None, None], past)
    found = loaded.retrieve(asked, 10)
    assert found.equals(direct.retrieve(asked, 10))
    assert found["item_id"][0] == AWKWARD["i04"]


def test_a_window_holds_its_own_events_only(shop: Path, exported: Exchange) -> None:
    whole = pl.read_csv(exported.interactions)
    assert whole.height == len(checkerboard())
    assert "unseen" not in exported.items.read_text("utf-8")
    export_interactions.main(shop / "fit", "fit", shop / "params.yaml", shop / "events.parquet")
    assert pl.read_csv(Exchange(shop / "fit").interactions).height == -(-whole.height // 3)


def test_a_part_s_factors_take_the_place_of_its_own(shop: Path) -> None:
    """Users of even numbers chose items of even numbers, and nobody both: two parts."""
    events = tables.read(shop / "events.parquet", tables.SPLIT_EVENTS)
    part = pl.when(pl.col("user_id").str.contains("[02468]$")).then(pl.lit("a"))
    of_user = events.select("user_id", part=part.otherwise(pl.lit("b"))).unique().sort("user_id")
    chosen = events.join(of_user, on="user_id").select("item_id", "part").unique()
    assert chosen["item_id"].is_unique().all()
    names = tables.ITEMS.columns
    blank = pl.DataFrame(
        [dict.fromkeys(names) | {"features": [], "categories": []}] * chosen.height, names
    )
    listed = pl.concat([blank.drop("item_id"), chosen], how="horizontal")
    tables.write(listed, shop / "items.parquet", tables.ITEMS)
    tables.write(of_user, shop / "users.parquet", tables.USERS)
    params = [
        shop / f"{name}.{'yaml' if name == 'params' else 'parquet'}"
        for name in ("params", "events", "items", "users")
    ]
    data = TrainingData(
        pl.DataFrame(schema={"item_id": pl.String, "text": pl.String}),
        events=events.filter(pl.col("split") != "test"),
        items=listed,
        users=of_user,
    )
    parts = Parts.of(listed, of_user)
    made = make_retriever("als", Fit(als=Als.model_validate(ALS)), 3, parts)
    made.fit(data)
    fitted = shop / "retrievers" / "als"
    (fitted / "train").mkdir(parents=True)
    made.save(fitted / "train")
    assert parts is not None
    parts.save(fitted / "parts")
    export_interactions.main(shop / "of a", "train", *params, part="a")
    exchange = Exchange(shop / "of a")
    _, items = train_elsewhere(exchange)
    write_wide(shop / "items.csv", items)
    import_factors.main(
        exchange.folder, shop / "items.csv", None, shop / "params.yaml", shop / "retrievers"
    )
    asked = queries([None, None], [["i01"], [AWKWARD["i02"]]])
    found = load_retriever("als", fitted / "train").retrieve(asked, 10)
    assert found["query_id"].n_unique() == 2
    assert found.equals(made.retrieve(asked, 10))
    export_interactions.main(shop / "whole", "train", *params)
    with pytest.raises(UserError, match="has a, b, and no part is given; export one of its parts"):
        import_factors.main(
            shop / "whole", shop / "items.csv", None, shop / "params.yaml", shop / "retrievers"
        )
    with pytest.raises(UserError, match="no item is of part 'c'; the shop has a, b"):
        export_interactions.main(shop / "x", "train", *params, part="c")


def test_users_are_compared_with_what_folding_in_gives(shop: Path, exported: Exchange) -> None:
    users, items = train_elsewhere(exported)
    item_ids, factors = items_of(exported, shop / "items.csv", items)
    made = AlsRetriever.of_factors(Als.model_validate(ALS), item_ids, factors, 5.0)
    write_wide(shop / "users.csv", users)
    assert import_factors.likeness(made, exported, shop / "users.csv") > 0.999
    write_wide(shop / "users.csv", -users)
    assert import_factors.likeness(made, exported, shop / "users.csv") < -0.999
    write_wide(shop / "users.csv", users[1:])
    assert import_factors.likeness(made, exported, shop / "users.csv") < 0.5


def items_of(exchange: Exchange, path: Path, factors: np.ndarray) -> tuple[pl.Series, np.ndarray]:
    write_arrays(path, factors)
    return import_factors.read_factors(path, import_factors.read_ids(exchange.items))


def test_items_without_factors_are_left_out(shop: Path, exported: Exchange) -> None:
    (shop / "some.csv").write_text("id,f0,f1\n3,1,2\n0,3,4\n")
    known = import_factors.read_ids(exported.items)
    ids, factors = import_factors.read_factors(shop / "some.csv", known)
    number = dict(known.select("id", "number").iter_rows())
    assert ids.to_list() == sorted(ids)
    assert {number[name] for name in ids} == {0, 3}
    rows = {0: [3, 4], 3: [1, 2]}
    assert factors.tolist() == [rows[number[name]] for name in ids]


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=finite))
def test_both_forms_give_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, factors: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("factors") / "factors.csv"
    ids = pl.DataFrame({"number": range(6), "id": list("abcdef")})
    for write in (write_wide, write_arrays):
        for header in (True, False):
            write(path, factors, header)
            names, read = import_factors.read_factors(path, ids)
            assert names.to_list() == list("abcdef")[: len(factors)]
            assert read.dtype == np.float32
            assert np.array_equal(read, factors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,f0,f1\n0,1,2\n99,1,2\n", "row 3, id 99: not in the map"),
        ("0,1,2\nx,1,2\n", "row 2, id x: not in the map"),
        ("id,f0,f1\n1,1,2\n0,1,2\n1,3,4\n", "row 2, id 1: stands twice"),
        ('id,features\n0,"[1, 2]"\n1,"[1, 2, 3]"\n', "row 3, id 1: expected 2 factors"),
        ("id,f0,f1\n0,1,2\n1,1,\n", "row 3, id 1: expected 2 factors"),
        ("id,f0\n0\n", "row 2, id 0: expected 1 factors"),
        ("id,f0,f1\n0,1,2\n1,1,nan\n", "row 3, id 1: a factor is no finite number"),
        ("id,f0,f1\n0,1,2\n1,1,1e99\n", "row 3, id 1: a factor is no finite number"),
        ('0,"[1, two]"\n', "row 1, id 0: a factor is no finite number"),
        ("id,f0,f1\n", "holds no factors"),
        ("", "is no CSV of factors"),
        ("id,f0\n0,1\n1,2,3\n", "is no CSV of factors"),
    ],
)
def test_wrong_factors_are_refused_by_row(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "factors.csv"
    path.write_text(text)
    ids = pl.DataFrame({"number": [0, 1], "id": ["a", "b"]})
    with pytest.raises(UserError, match=message):
        import_factors.read_factors(path, ids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,item_id\n0,a\n0,b\n", "row 2: number '0' is none or stands twice"),
        ("item,item_id\n0,a\n1,a\n", "row 2: id 'a' is none or stands twice"),
        ("item,item_id\n0,a\nx,b\n", "row 3: number 'x' is none"),
        ("item\n0\n", "has 1 columns"),
        ("", r"items\.csv is no CSV of a number and an id a row \(empty CSV\); export the"),
        ("item,item_id\n0,a\n1,b,c\n", r"items\.csv is no CSV of a number and an id a row"),
    ],
)
def test_wrong_maps_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        import_factors.read_ids(tmp_path / "items.csv")


def test_what_is_not_there_is_said(shop: Path, exported: Exchange, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        import_factors.main(
            exported.folder, shop / "none.csv", None, shop / "params.yaml", shop / "retrievers"
        )
    with pytest.raises(UserError, match=r"about\.json: no such file"):
        import_factors.main(
            shop / "other", shop / "none.csv", None, shop / "params.yaml", shop / "retrievers"
        )
    assert not (shop / "retrievers").exists()
    weightless = {"fit": {"als": {"weights": {"purchase": 0}}}}
    (shop / "params.yaml").write_text(yaml.safe_dump(weightless))
    with pytest.raises(UserError, match="no event of window train has a weight"):
        export_interactions.main(shop / "x", "train", shop / "params.yaml", shop / "events.parquet")
