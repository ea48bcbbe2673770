"""A feed's log: impressions and clicks, ids beyond int64, tags; refused by file and row."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Ingest
from stages.prepare.sources import Ingested, homepage_feed

U, V, NEVER = "18446744073709551615", "5905843863414246198", "99999999999999999999"
A, B, C = "18292817638588633000", "18292817638588633001", "2913544956788485329"
SHOP = f"""1507227017864,{U},{A},1
1507227017864,{U},{B},0
1507227017864,{U},{B},0
1507227017864,{V},{A},0
1507227017864,{V},{A},1
1507289754817,{V},{B},1
"""
USERS = f"{U},5815410292355965161,9654793839496497106\n{NEVER},1,2\n"
ITEMS = f"{A},13436025092276385633,2695342664795806511,8795133570338410968\n{C},7,,9\n"


def write(folder: Path, shop: str = SHOP, users: str = USERS, items: str = ITEMS) -> None:
    (folder / "shop.dat").write_text(shop)
    (folder / "user_feature.dat").write_text(users)
    (folder / "item_feature.dat").write_text(items)


def read(folder: Path, **params: Any) -> Ingested:
    outer = {name: params.pop(name) for name in {"on_bad_row", "max_bad_rows"} & set(params)}
    options = Ingest.model_validate({"source": "homepage_feed", "homepage_feed": params} | outer)
    found = homepage_feed.ingest(options, folder)
    for name in ("items", "users", "events", "impressions", "properties"):
        tables.check(getattr(found, name), getattr(tables, name.upper()))
    return found


def test_seconds_read_as_milliseconds_are_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, shop=f"1507227017,{U},{A},1\n")
    read(tmp_path)
    read(tmp_path, time_unit="s")
    assert caplog.text.count("set ingest.homepage_feed.time_unit: s") == 1


def test_what_was_shown_are_impressions_and_what_was_clicked_events(tmp_path: Path) -> None:
    write(tmp_path)
    found = read(tmp_path)
    assert (found.rows, found.duplicates, found.bad_rows) == (6, 1, 0)
    then = datetime(2017, 10, 5, 18, 10, 17, 864_000, tzinfo=UTC)
    ms = 1507227017864
    shown = found.impressions.select("impression_id", "user_id", "item_id", "click", "conversion")
    assert shown.rows() == [
        (f"hf_{U}:hf_{A}:{ms}", f"hf_{U}", f"hf_{A}", 1, 0),
        (f"hf_{U}:hf_{B}:{ms}", f"hf_{U}", f"hf_{B}", 0, 0),
        (f"hf_{V}:hf_{A}:{ms}", f"hf_{V}", f"hf_{A}", 0, 0),
        (f"hf_{V}:hf_{A}:{ms}:1", f"hf_{V}", f"hf_{A}", 1, 0),
        (f"hf_{V}:hf_{B}:1507289754817", f"hf_{V}", f"hf_{B}", 1, 0),
    ]
    assert found.impressions["timestamp"][0] == then
    assert found.impressions["position"].null_count() == 5
    assert found.events.select("event_id", "user_id", "item_id", "event", "value").rows() == [
        (f"hf_{U}:hf_{A}:{ms}:view", f"hf_{U}", f"hf_{A}", "view", 1.0),
        (f"hf_{V}:hf_{A}:{ms}:view", f"hf_{V}", f"hf_{A}", "view", 1.0),
        (f"hf_{V}:hf_{B}:1507289754817:view", f"hf_{V}", f"hf_{B}", "view", 1.0),
    ]


def test_neighbours_beyond_int64_stay_apart(tmp_path: Path) -> None:
    first = 2**63
    ids = [str(first + step) for step in range(5)] + ["9" * 20, "0" + "9" * 19]
    write(tmp_path, "".join(f"{place},{U},{name},1\n" for place, name in enumerate(ids)))
    assert set(read(tmp_path).events["item_id"]) == {f"hf_{name}" for name in ids}


def test_tags_are_columns_and_users_who_never_appear_are_counted(tmp_path: Path) -> None:
    write(tmp_path)
    found = read(tmp_path)
    assert found.users.rows() == [
        (f"hf_{U}", "5815410292355965161", "9654793839496497106"),
        (f"hf_{V}", None, None),
    ]
    assert found.unseen_users == 1
    assert found.items.select("item_id", "itag1", "itag2", "itag3").rows() == [
        (f"hf_{A}", "13436025092276385633", "2695342664795806511", "8795133570338410968"),
        (f"hf_{B}", None, None, None),
        (f"hf_{C}", "7", None, "9"),
    ]


def test_a_user_who_only_saw_is_a_user(tmp_path: Path) -> None:
    write(tmp_path, SHOP + f"1507289754818,{NEVER},{B},0\n")
    found = read(tmp_path)
    assert found.users["user_id"].to_list()[-1] == f"hf_{NEVER}"
    assert found.unseen_users == 0
    assert found.events.height == 3


def test_separator_header_and_unit(tmp_path: Path) -> None:
    write(tmp_path)
    expected = read(tmp_path)

    def bars(names: str, rows: str) -> str:
        return names + "\n" + rows.replace(",", " | ")

    seconds = SHOP.replace("1507227017864", "1507227017.864").replace(
        "1507289754817", "1507289754.817"
    )
    write(
        tmp_path,
        bars("ts | uid | iid | label", seconds),
        bars("uid | utag1 | utag2", USERS),
        bars("iid | itag1 | itag2 | itag3", ITEMS),
    )
    found = read(tmp_path, separator="|", header=True, time_unit="s")
    for name in ("items", "users", "events", "impressions"):
        assert getattr(found, name).equals(getattr(expected, name)), name


def test_without_tags(tmp_path: Path) -> None:
    write(tmp_path)
    found = read(tmp_path, user_features=[], item_features=[])
    assert found.users.columns == ["user_id"]
    assert found.items.columns == list(tables.ITEMS.columns)


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("shop.dat", f"1507227017864,,{A},1", "'column_1' is empty, expected an id"),
        ("shop.dat", f"1507227017864,{U},,1", "'column_2' is empty, expected an id"),
        ("shop.dat", f"-3,{U},{A},1", "'column_0' is '-3', expected a time between 1970 and 2100"),
        ("shop.dat", f"soon,{U},{A},1", "'column_0' is 'soon', expected a time"),
        ("shop.dat", f"1507227017864,{U},{A},2", "'column_3' is '2', expected 0 or 1"),
        ("user_feature.dat", ",1,2", "'column_0' is empty, expected an id"),
        ("user_feature.dat", f"{U},3,4", f"'column_0' is '{U}', expected one row for each"),
        ("item_feature.dat", f"{A},3,4,5", f"'column_0' is '{A}', expected one row for each"),
    ],
)
def test_a_bad_row_is_named_or_left_out(tmp_path: Path, name: str, row: str, said: str) -> None:
    write(tmp_path)
    good = read(tmp_path)
    path = tmp_path / name
    line = len(path.read_text().splitlines()) + 1
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(UserError, match="on_bad_row") as refused:
        read(tmp_path)
    assert f"{path}:{line}: column {said}" in str(refused.value)
    found = read(tmp_path, on_bad_row="skip")
    assert found.bad_rows == 1
    for table in ("items", "users", "events", "impressions"):
        assert getattr(found, table).equals(getattr(good, table))


def test_ids_in_floats(tmp_path: Path) -> None:
    log = {"ts": [1, 2], "uid": [7.0, 8.0], "iid": [1.0, float("nan")], "label": [1, 1]}
    pl.DataFrame(log).write_parquet(tmp_path / "shop.parquet")
    tags = {"iid": [1.0], "itag1": ["a"], "itag2": ["b"], "itag3": ["c"]}
    pl.DataFrame(tags).write_parquet(tmp_path / "items.parquet")
    options: dict[str, Any] = {
        "log": ["shop.parquet"],
        "item_features": ["items.parquet"],
        "user_features": [],
        "header": True,
    }
    with pytest.raises(UserError, match=r"parquet:2: column 'iid' is empty, expected an id"):
        read(tmp_path, **options)
    found = read(tmp_path, on_bad_row="skip", **options)
    assert found.events.select("user_id", "item_id").rows() == [("hf_7", "hf_1")]
    assert found.items.select("item_id", "itag1").rows() == [("hf_1", "a")]
    assert found.bad_rows == 1


def test_a_log_without_a_click_is_refused(tmp_path: Path) -> None:
    write(tmp_path, f"1507227017864,{U},{A},0\n")
    with pytest.raises(UserError, match=r"shop\.dat: no click among 1 rows"):
        read(tmp_path)


def test_the_wrong_separator_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match=r"no column column_1, column_2, column_3; the file has"):
        read(tmp_path, separator="|")


def test_the_order_of_rows_does_not_matter(tmp_path: Path, run_ingest: Any) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write(raw)
    first = run_ingest("homepage_feed")
    write(raw, "".join(reversed(SHOP.splitlines(keepends=True))))
    again = run_ingest("homepage_feed")
    assert again["digest"] == first["digest"]
    assert pl.read_parquet("data/ingest/properties.parquet").is_empty()
