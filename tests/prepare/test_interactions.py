"""Logs of any columns: read exactly, refused with file, row and remedy."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Ingest
from stages.prepare.sources import Ingested, interactions

LOG = """who,what,at,did
7,18292817638588633000,1000,view
7,18292817638588633001,2000,addtocart
8,18292817638588633000,3000,transaction
8,18292817638588633000,3000,transaction
"""
COLUMNS = {"user": "who", "item": "what", "time": "at", "event": "did"}
NAMED = {"addtocart": "cart", "transaction": "purchase"}


def settings(**params: Any) -> Ingest:
    own = {"on_bad_row", "max_bad_rows"} & set(params)
    outer = {name: params.pop(name) for name in own}
    log = {"columns": COLUMNS, "events_named": NAMED} | params
    return Ingest.model_validate({"source": "interactions", "interactions": log} | outer)


def read(folder: Path, **params: Any) -> Ingested:
    found = interactions.ingest(settings(**params), folder)
    for name in ("items", "users", "events", "impressions"):
        tables.check(getattr(found, name), getattr(tables, name.upper()))
    return found


def test_ids_times_and_events_are_exact(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    found = read(tmp_path)
    assert (found.rows, found.duplicates, found.bad_rows) == (4, 1, 0)
    assert found.events.select("user_id", "item_id", "event", "value").rows() == [
        ("in_7", "in_18292817638588633000", "view", 1.0),
        ("in_7", "in_18292817638588633001", "cart", 1.0),
        ("in_8", "in_18292817638588633000", "purchase", 1.0),
    ]
    assert found.events["timestamp"].to_list()[1] == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert found.users["user_id"].to_list() == ["in_7", "in_8"]
    assert found.items.height == 2


def test_the_form_of_the_file_does_not_matter(tmp_path: Path) -> None:
    expected = None
    plain = pl.read_csv(LOG.encode(), infer_schema=False)
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "log.csv").write_text(LOG)
    (tmp_path / "b" / "log.csv.gz").write_bytes(gzip.compress(LOG.encode()))
    numbers = plain.with_columns(pl.col("at").cast(pl.Int64), pl.col("who").cast(pl.Int32))
    numbers.write_parquet(tmp_path / "c" / "log.parquet")
    bare = "\n".join(LOG.splitlines()[1:]).replace(",", "\t")
    (tmp_path / "d" / "log.csv").write_text(bare)
    numbered = {ours: f"column_{place}" for place, ours in enumerate(COLUMNS)}
    for name in ("a", "b", "c", "d"):
        more = {"columns": numbered, "header": False, "separator": "\t"} if name == "d" else {}
        found = read(tmp_path / name, **more)
        expected = found.events if expected is None else expected
        assert found.events.equals(expected)


@pytest.mark.parametrize(
    ("unit", "at"),
    [("s", "1588687728"), ("ms", "1588687728000"), ("iso", "2020-05-05T14:08:48")],
)
def test_units_of_time(tmp_path: Path, unit: str, at: str) -> None:
    (tmp_path / "log.csv").write_text(f"user_id,item_id,timestamp\nu,i,{at}\n")
    found = read(tmp_path, columns={}, time_unit=unit)
    assert found.events["timestamp"].item() == datetime(2020, 5, 5, 14, 8, 48, tzinfo=UTC)


@pytest.mark.parametrize(
    ("unit", "at", "doubted"),
    [("ms", "1588687728", True), ("ms", "788918400000", False), ("s", "1588687728", False)],
)
def test_seconds_read_as_milliseconds_are_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, unit: str, at: str, doubted: bool
) -> None:
    (tmp_path / "log.csv").write_text(f"user_id,item_id,timestamp\nu,i,{at}\nu,j,7\n")
    read(tmp_path, columns={}, time_unit=unit)
    said = (
        "the log ends on 1970-01-19, read in milliseconds; if its times are seconds, set "
        "ingest.interactions.time_unit: s"
    )
    assert [record.getMessage() for record in caplog.records] == [said] * doubted


def test_a_log_without_times_has_no_unit_to_doubt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    read(tmp_path, columns=COLUMNS | {"time": None})
    assert not caplog.records


def test_a_log_without_times_is_of_one_time(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    found = read(tmp_path, columns=COLUMNS | {"time": None})
    assert found.events["timestamp"].unique().to_list() == [datetime(1970, 1, 1, tzinfo=UTC)]
    assert found.events["event_id"][0] == "in_7:in_18292817638588633000:0:view"


def test_dates_of_a_parquet_file_are_times(tmp_path: Path) -> None:
    day = {"user_id": ["u"], "item_id": ["i"], "timestamp": [datetime(2020, 5, 5)]}
    pl.DataFrame(day).write_parquet(tmp_path / "log.parquet")
    found = read(tmp_path, columns={})
    assert found.events["timestamp"].item() == datetime(2020, 5, 5, tzinfo=UTC)


def test_lists_of_a_session_are_rows(tmp_path: Path) -> None:
    session = pl.DataFrame({"who": [7, 8], "what": [[1, 2], [3]], "at": [[10, 20], [30]]})
    session.write_parquet(tmp_path / "sessions.parquet")
    found = read(tmp_path, columns={k: v for k, v in COLUMNS.items() if k != "event"}, event="view")
    rows = found.events.sort("timestamp").select("user_id", "item_id", "event").rows()
    assert rows == [("in_7", "in_1", "view"), ("in_7", "in_2", "view"), ("in_8", "in_3", "view")]


def test_a_bad_part_of_a_list_is_named_by_its_row(tmp_path: Path) -> None:
    session = pl.DataFrame({"who": [7, 8], "what": [[1, 2], [3, None]], "at": [[10, 20], [30, 40]]})
    session.write_parquet(tmp_path / "sessions.parquet")
    columns = {k: v for k, v in COLUMNS.items() if k != "event"}
    with pytest.raises(UserError, match=r"sessions\.parquet:2: column 'what' is empty, expected"):
        read(tmp_path, columns=columns)


@pytest.mark.parametrize("array", [False, True])
def test_lists_of_one_length_and_those_that_are_not(tmp_path: Path, array: bool) -> None:
    columns = {k: v for k, v in COLUMNS.items() if k != "event"}
    log = {"who": [7, 8], "what": [["1", "2"], ["3"]], "at": [[10, 20], [30, 40]]}
    kinds = {"at": pl.Array(pl.Int64, 2)} if array else {}
    pl.DataFrame(log, schema_overrides=kinds).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(UserError, match="on_bad_row") as refused:
        read(tmp_path, columns=columns)
    said = "lists of 1 and 2 parts in columns 'what', 'at', expected as many in each"
    assert f"{tmp_path / 'log.parquet'}:2: {said}" in str(refused.value)
    found = read(tmp_path, columns=columns, on_bad_row="skip")
    assert found.events["item_id"].to_list() == ["in_1", "in_2"]
    assert found.bad_rows == 1


def test_lists_of_no_parts_beside_others(tmp_path: Path) -> None:
    columns = {k: v for k, v in COLUMNS.items() if k != "event"}
    log = {"who": [7, 8, 9], "what": [[1], [], None], "at": [[10], [], [30]]}
    pl.DataFrame(log).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(UserError, match=r"parquet:3: lists of no and 1 parts in columns 'what'"):
        read(tmp_path, columns=columns)
    assert read(tmp_path, columns=columns, on_bad_row="skip").rows == 2


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        ([{"a": 1}, {"a": 2}], "Struct({'a': Int64})"),
        ([[[1]], [[2]]], "List(List(Int64))"),
        ([[{"a": 1}], [{"a": 2}]], "List(Struct({'a': Int64}))"),
    ],
)
@pytest.mark.parametrize("of_items", [False, True])
def test_ids_within_ids_are_refused(
    tmp_path: Path, ids: list[Any], kind: str, of_items: bool
) -> None:
    times = {"who": [7, 8], "at": [10, 20]}
    columns = {k: v for k, v in COLUMNS.items() if k != "event"}
    nested = pl.DataFrame({"what": ids} | times)
    good = pl.DataFrame({"what": ["1", "2"]} | times)
    (good if of_items else nested).write_parquet(tmp_path / "log.parquet")
    (tmp_path / "said").mkdir()
    (nested if of_items else good).write_parquet(tmp_path / "said" / "items.parquet")
    items = [{"file": "said/items.parquet", "columns": {"item_id": "what"}}]
    with pytest.raises(UserError) as refused:
        read(tmp_path, columns=columns, items=items, on_bad_row="skip")
    file = tmp_path / ("said/items.parquet" if of_items else "log.parquet")
    parameter = "ingest.interactions" + ".items" * of_items
    said = str(refused.value)
    assert said.startswith(f"{file}: column 'what' is of type {kind}, expected text, numbers or")
    assert f"name another in the columns of {parameter}, or" in said


@pytest.mark.parametrize("kind", [pl.Float32, pl.Float64])
def test_whole_floats_are_ids_and_none_is_a_missing_one(
    tmp_path: Path, kind: type[pl.DataType]
) -> None:
    columns = {k: v for k, v in COLUMNS.items() if k != "event"}
    ids = [1.0, float("nan"), None, 1000.0]
    log = {"who": ids[::-1], "what": ids, "at": [10, 20, 30, 40]}
    pl.DataFrame(log, schema_overrides={"who": kind, "what": kind}).write_parquet(
        tmp_path / "log.parquet"
    )
    (tmp_path / "said").mkdir()
    said = pl.DataFrame({"id": ids, "name": list("abcd")}, schema_overrides={"id": kind})
    said.write_parquet(tmp_path / "said" / "items.parquet")
    options: dict[str, Any] = {
        "columns": columns,
        "items": about("said/items.parquet", title="name"),
    }
    with pytest.raises(UserError, match=r"parquet:2: column 'who' is empty, expected an id"):
        read(tmp_path, **options)
    found = read(tmp_path, on_bad_row="skip", **options)
    assert found.events.select("user_id", "item_id").sort("item_id").rows() == [
        ("in_1000", "in_1"),
        ("in_1", "in_1000"),
    ]
    assert found.items.select("item_id", "title").rows() == [("in_1", "a"), ("in_1000", "d")]
    assert found.bad_rows == 4


@pytest.mark.parametrize(
    ("wrong", "kind", "below"),
    [
        (1.5, pl.Float64, 2**53),
        (float("inf"), pl.Float64, 2**53),
        # Beyond it neighbours are one float.
        (2.0**53, pl.Float64, 2**53),
        (18292817638588633000.0, pl.Float64, 2**53),
        (2.0**24, pl.Float32, 2**24),
    ],
)
def test_floats_that_are_no_ids_are_named_or_left_out(
    tmp_path: Path, wrong: float, kind: type[pl.DataType], below: int
) -> None:
    columns = {k: v for k, v in COLUMNS.items() if k != "event"}
    log = {"who": ["u", "v"], "what": [below - 1, wrong], "at": [10, 20]}
    pl.DataFrame(log, schema_overrides={"what": kind}, strict=False).write_parquet(
        tmp_path / "log.parquet"
    )
    with pytest.raises(UserError) as refused:
        read(tmp_path, columns=columns)
    said = f"{wrong!r}, expected an id, which as a float is a whole number below {below};"
    assert f"log.parquet:2: column 'what' is {said}" in str(refused.value)
    found = read(tmp_path, columns=columns, on_bad_row="skip")
    assert found.events["item_id"].to_list() == [f"in_{below - 1}"]
    assert found.bad_rows == 1


def test_bytes_that_are_no_text_are_named_or_left_out(tmp_path: Path) -> None:
    columns = {k: v for k, v in COLUMNS.items() if k != "event"}
    log = {"who": ["u", "v", "w"], "what": ["café".encode(), b"x", b"\xff"], "at": [1, 2, 3]}
    pl.DataFrame(log).write_parquet(tmp_path / "log.parquet")
    said = r"log\.parquet:3: column 'what' is b'\\xff', expected text in UTF-8; correct"
    with pytest.raises(UserError, match=said):
        read(tmp_path, columns=columns)
    found = read(tmp_path, columns=columns, on_bad_row="skip")
    assert found.events["item_id"].to_list() == ["in_café", "in_x"]
    assert (found.bad_rows, found.rows) == (1, 3)


def test_a_column_of_any_name_may_stand_beside_those_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("row,who,what,at,did\n1,7,i,1000,view\n")
    assert read(tmp_path).events["item_id"].to_list() == ["in_i"]


def test_names_with_space_around_them_are_found(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG.replace(",", " , "))
    assert read(tmp_path).events["item_id"].to_list()[1] == "in_18292817638588633001"


def test_ratings_of_the_same_moment_have_numbers(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp,stars\nu,i,1,5\nu,i,1,3\nu,i,1,5\n"
    (tmp_path / "log.csv").write_text(log)
    found = read(tmp_path, columns={"value": "stars"}, event="rate")
    assert found.events.select("event_id", "value").rows() == [
        ("in_u:in_i:1:rate", 3.0),
        ("in_u:in_i:1:rate:1", 5.0),
    ]
    assert found.duplicates == 1


def test_what_is_said_of_items(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG.replace("1829281763858863300", "i"))
    (tmp_path / "brand.dat").write_text("i0;Alba\ni9;Burt\n")
    (tmp_path / "kinds.txt").write_text("id,name,kind\ni0,,soap|bar\ni0,Soap,bar|oil\ni1,Oil,\n")
    (tmp_path / "more.txt").write_text("id,name\ni0,Another\ni9,Balm\n")
    items: list[dict[str, Any]] = [
        {
            "file": "brand.dat",
            "columns": {"item_id": "column_0", "brand": "column_1"},
            "separator": ";",
            "header": False,
        },
        {"file": "kinds.txt", "columns": {"item_id": "id", "title": "name", "categories": "kind"}},
        {"file": "more.txt", "columns": {"item_id": "id", "title": "name"}},
    ]
    found = read(tmp_path, items=items).items
    assert found.select("item_id", "title", "brand", "categories").rows() == [
        ("in_i0", "Soap", "Alba", ["soap", "bar", "oil"]),
        ("in_i1", "Oil", None, []),
        ("in_i9", "Balm", "Burt", []),
    ]


def about(file: str, **columns: str) -> list[dict[str, Any]]:
    return [{"file": file, "columns": {"item_id": "id"} | columns}]


def test_an_item_is_the_same_in_the_log_and_in_what_is_said_of_it(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu, 5 ,1000\n")
    (tmp_path / "said.txt").write_text("id,name\n  5,Soap\n")
    found = read(tmp_path, columns={}, items=about("said.txt", title="name"))
    assert found.items.select("item_id", "title").rows() == [("in_5", "Soap")]


@pytest.mark.parametrize(
    ("row", "columns", "said"),
    [
        ("   ,Oil,bar", ["title"], "column 'id' is '   ', expected an id"),
        (",Oil,bar", ["title"], "column 'id' is empty, expected an id"),
        ("i1,Soap,soap", ["title"], "column 'id' is 'i1', expected one row for each"),
        (" i1 ,Oil,bar", ["title"], "column 'id' is ' i1 ', expected one row for each"),
        (",Oil,bar", ["title", "categories"], "column 'id' is empty, expected an id"),
        (
            "i1,Soap,soap",
            ["title", "categories"],
            "column 'id' is 'i1', expected one row for each and its 'kind'",
        ),
        (
            "i1,Oil,bar",
            ["title", "categories"],
            "column 'name' is 'Oil', expected what the item's first row says",
        ),
    ],
)
def test_a_row_about_no_item_or_one_again_is_named_or_left_out(
    tmp_path: Path, row: str, columns: list[str], said: str
) -> None:
    names = {"title": "name", "categories": "kind"}
    items = about("said.txt", **{name: names[name] for name in columns})
    (tmp_path / "log.csv").write_text(LOG)
    rows = "id,name,kind\ni1,Soap,soap\ni2,,oil\n"
    (tmp_path / "said.txt").write_text(rows)
    expected = read(tmp_path, items=items).items
    (tmp_path / "said.txt").write_text(rows + row + "\n")
    with pytest.raises(UserError, match="on_bad_row") as refused:
        read(tmp_path, items=items)
    assert f"{tmp_path / 'said.txt'}:4: {said}" in str(refused.value)
    found = read(tmp_path, items=items, on_bad_row="skip")
    assert found.items.equals(expected)
    assert (found.bad_rows, found.rows) == (1, 5)


def test_of_what_several_files_say_of_an_item_the_first_counts(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "said1.txt").write_text("id,name\ni1,\ni2,Oil\n")
    (tmp_path / "said2.txt").write_text("id,name\ni1,Soap\ni2,Balm\n")
    found = read(tmp_path, items=about("said*.txt", title="name"))
    known = found.items.filter(pl.col("item_id").str.starts_with("in_i"))
    assert known.select("item_id", "title").rows() == [("in_i1", "Soap"), ("in_i2", "Oil")]
    assert found.bad_rows == 0


def test_categories_in_lists_are_of_one_row(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    said = {"id": ["i1", "i2"], "name": ["Soap", "Oil"], "kind": [[], ["a", "b", "a"]]}
    (tmp_path / "said").mkdir()
    pl.DataFrame(said).write_parquet(tmp_path / "said" / "items.parquet")
    items = about("said/items.parquet", title="name", categories="kind")
    found = read(tmp_path, items=items).items.filter(pl.col("item_id").str.starts_with("in_i"))
    assert found.select("item_id", "title", "categories").rows() == [
        ("in_i1", "Soap", []),
        ("in_i2", "Oil", ["a", "b"]),
    ]


def test_prices_that_are_no_numbers_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    prices = {"i1": "12.50", "i2": "12,50", "i3": "", "i4": "nan", "i5": "7"}
    rows = "".join(f"{item};{price}\n" for item, price in prices.items())
    (tmp_path / "said.txt").write_text(f"id;costs\n{rows}")
    columns = {"item_id": "id", "price": "costs"}
    found = read(tmp_path, items=[{"file": "said.txt", "columns": columns, "separator": ";"}]).items
    known = found.filter(pl.col("item_id").str.starts_with("in_i"))
    assert known["price"].to_list() == [12.5, None, None, None, 7.0]
    assert [record.getMessage() for record in caplog.records] == [
        "the log ends on 1970-01-01, read in milliseconds; if its times are seconds, set "
        "ingest.interactions.time_unit: s",
        "2 prices in said.txt could not be read, such as '12,50'; write 12.50",
    ]


def test_names_of_a_file_that_is_no_table_do_not_garble_the_terminal(tmp_path: Path) -> None:
    names = [f"\x1b[2J{'x' * 99}", *(f"café{place}" for place in range(49))]
    (tmp_path / "log.csv").write_text(",".join(names) + "\n")
    with pytest.raises(UserError) as refused:
        read(tmp_path)
    said = str(refused.value)
    assert said.isprintable()
    assert f"the file has \\x1b[2J{'x' * 56}, café0, " in said
    assert "café38 and 10 more: correct" in said


@pytest.mark.parametrize("rows", ["i,soap|bar|soap", "i,soap|bar\ni,bar|soap"])
def test_a_category_counts_once(tmp_path: Path, rows: str) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "kinds.txt").write_text(f"id,kind\n{rows}\n")
    about = {"file": "kinds.txt", "columns": {"item_id": "id", "categories": "kind"}}
    found = read(tmp_path, items=[about]).items.filter(item_id="in_i")
    assert found["categories"].to_list() == [["soap", "bar"]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (",i,5,view", "column 'who' is empty, expected an id"),
        ("u,,5,view", "column 'what' is empty, expected an id"),
        ("u,i,soon,view", "column 'at' is 'soon', expected a time between 1970 and 2100"),
        ("u,i,-5,view", "column 'at' is '-5', expected a time"),
        ("u,i,5,wished", "column 'did' is 'wished', expected one of addtocart, transaction, view"),
    ],
)
def test_a_bad_row_is_named_or_left_out(tmp_path: Path, row: str, said: str) -> None:
    (tmp_path / "log.csv").write_text(LOG + row + "\n")
    with pytest.raises(UserError, match="on_bad_row") as refused:
        read(tmp_path)
    assert f"{tmp_path / 'log.csv'}:6: {said}" in str(refused.value)
    found = read(tmp_path, on_bad_row="skip")
    assert (found.bad_rows, found.events.height, found.rows) == (1, 3, 5)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("break_", ["\n", "\r\n"])
def test_a_row_of_too_many_fields_is_named_or_left_out(
    tmp_path: Path, packed: bool, break_: str
) -> None:
    rows = [
        "",
        "who,what,at,did",
        '"7,a",i1,1000,view',
        '"8\nb",i2,2000,view',
        "",
        "9,i3,3000,view,oops",
        "9,i3,4000,view,",
        "9,i4,5000,view",
        "9,i5,soon,view",
    ]
    file = tmp_path / "log.csv"
    file.write_bytes((gzip.compress if packed else bytes)(break_.join(rows).encode()))
    with pytest.raises(UserError) as refused:
        read(tmp_path)
    # Seven lines, the name of a user being two.
    assert str(refused.value).startswith(
        f"{file}:7: 5 fields, expected 4, and quotes around a text that holds ','; correct or"
    )
    found = read(tmp_path, on_bad_row="skip")
    assert found.events["item_id"].to_list() == ["in_i1", "in_i2", "in_i4"]
    # Two too long, an empty one and one without a time.
    assert (found.bad_rows, found.rows) == (4, 7)
    with pytest.raises(UserError, match=rf"{file}:8: 5 fields.*bad line 2"):
        read(tmp_path, on_bad_row="skip", max_bad_rows=1)


def test_too_many_fields_without_a_header_and_about_items(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("u;i1;1\nu;i2;2;x\nu;i3;3\n")
    (tmp_path / "said.txt").write_text("id,name\ni1,Soap, mild\ni3,Oil\n")
    numbered = {ours: f"column_{place}" for place, ours in enumerate(("user", "item", "time"))}
    about = {"file": "said.txt", "columns": {"item_id": "id", "title": "name"}}
    options = {"columns": numbered, "header": False, "separator": ";", "items": [about]}
    with pytest.raises(UserError, match=r"log\.csv:2: 4 fields, expected 3"):
        read(tmp_path, **options)
    found = read(tmp_path, on_bad_row="skip", **options)
    assert found.items.select("item_id", "title").rows() == [("in_i1", None), ("in_i3", "Oil")]
    assert found.bad_rows == 2


def test_a_row_is_left_out_only_where_all_count_rows_alike(tmp_path: Path) -> None:
    """What stands between carriage returns alone is one row to one reader, two to another."""
    (tmp_path / "log.csv").write_bytes(LOG.encode() + b"7,i,5,view\r7,j,6,view\n7,k,7,view,x\n")
    with pytest.raises(
        UserError, match=r"log\.csv cannot be read \(6 rows or 7: .* line break is not"
    ):
        read(tmp_path, on_bad_row="skip")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("written", "line"),
    [
        (LOG.encode() + "café,i,5,view\n".encode("latin-1"), 6),
        (LOG.replace("did", "tâche").encode("cp1252"), 1),
        (LOG.encode("utf-16"), 1),
    ],
)
def test_text_that_is_not_utf_8_is_named_by_its_line(
    tmp_path: Path, packed: bool, written: bytes, line: int
) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes((gzip.compress if packed else bytes)(written))
    with pytest.raises(UserError, match=rf"{file}:{line}: not UTF-8; save the file as UTF-8"):
        read(tmp_path, on_bad_row="skip")


def test_a_quote_that_is_not_closed_is_no_row_of_too_many_fields(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG + '7,"i,5,view\n7,j,6,view\n')
    with pytest.raises(
        UserError, match=r"log\.csv cannot be read \(.*a quote is not closed"
    ) as refused:
        read(tmp_path, on_bad_row="skip")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": COLUMNS | {"user": "visitor"}}, "no column visitor; the file has who, what"),
        ({"separator": ";"}, "correct the columns of ingest.interactions, or the separator"),
        ({"events": ["*.tsv"]}, "no file matches *.tsv"),
        ({"items": [{"file": "no.csv", "columns": {"item_id": "id"}}]}, "no file matches no.csv"),
        (
            {"items": [{"file": "kinds.txt", "columns": {"item_id": "sku"}}]},
            "correct the columns of ingest.interactions.items",
        ),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "kinds.txt").write_text("id,kind\ni0,soap\n")
    with pytest.raises(UserError) as refused:
        read(tmp_path, **change)
    assert said in str(refused.value)


def test_a_file_about_items_names_their_ids() -> None:
    with pytest.raises(ValueError, match=r"'x\.csv' name no item_id"):
        settings(items=[{"file": "x.csv", "columns": {"title": "name"}}])


def test_real_ratings_and_what_is_said_of_their_items(real_data: Path) -> None:
    def about(name: str, ours: str) -> dict[str, Any]:
        columns = {"item_id": "column_0", ours: "column_1"}
        return {"file": f"item_{name}.dat", "columns": columns, "header": False}

    found = read(
        real_data / "amazon_hin",
        events=["user_item.dat.gz"],
        columns={"user": "column_0", "item": "column_1", "time": "column_3", "value": "column_2"},
        separator="\t",
        header=False,
        time_unit="s",
        event="rate",
        items=[about("brand", "brand"), about("category", "categories")],
    )
    assert (found.rows, found.duplicates) == (195_791, 0)
    assert (found.users.height, found.items.height) == (6_170, 2_753)
    assert found.events["value"].unique().sort().to_list() == [1, 2, 3, 4, 5]
    assert found.events["timestamp"].max() == datetime(2014, 7, 13, tzinfo=UTC)
    assert found.items["brand"].null_count() < 100
    assert found.items["categories"].list.len().max() > 1


def test_real_sessions_whose_items_stand_in_lists(real_data: Path) -> None:
    found = read(
        real_data / "rees46",
        columns={
            "user": "user_idx",
            "item": "sess_pid_seq",
            "time": "sess_etime_seq",
            "event": "sess_etype_seq",
        },
        time_unit="s",
        events_named={"2": "view", "3": "cart", "4": "purchase"},
    )
    sessions = [pl.read_parquet(path) for path in (real_data / "rees46").glob("*.parquet")]
    lengths = pl.concat([frame["sess_pid_seq"].list.len() for frame in sessions])
    assert found.rows == lengths.sum()
    assert found.events.height == found.rows - found.duplicates
    assert set(found.events["event"].unique()) == {"view", "cart", "purchase"}
