"""Properties as of a window's end: the last value that had been said, and never a later one."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import catalogue, files, tables
from stages.core.log import UserError
from stages.prepare import split
from stages.prepare.splitting.properties import as_of_windows

Row = tuple[str, int, str, str]


def properties(*rows: Row) -> pl.DataFrame:
    """Properties of (item, millisecond, name, value)."""
    columns = list(zip(*rows, strict=True)) if rows else [[], [], [], []]
    return pl.DataFrame(
        {
            "item_id": pl.Series(columns[0], dtype=pl.String),
            "timestamp": pl.Series(columns[1], dtype=pl.Int64).cast(tables.TIME),
            "name": pl.Series(columns[2], dtype=pl.String),
            "value": pl.Series(columns[3], dtype=pl.String),
        }
    )


def marked(**ends: int) -> pl.DataFrame:
    """An event at the end of each part, and one at its beginning."""
    return pl.DataFrame(
        {
            "split": pl.Series([p for p in ends for _ in range(2)], dtype=pl.Enum(tables.PARTS)),
            "timestamp": pl.Series(
                [ms for end in ends.values() for ms in (end - 4, end)], dtype=pl.Int64
            ).cast(tables.TIME),
        }
    )


MARKED = marked(fit=100, rank=200, valid=300, test=400)


def test_the_last_value_by_each_windows_end() -> None:
    known = as_of_windows(
        properties(
            ("a", 10, "available", "0"),
            ("a", 100, "available", "1"),  # with the window's last event
            ("a", 101, "available", "0"),
            ("a", 200, "categories", "1 > 2"),
            ("a", 201, "categories", "1 > 3"),
            ("b", 50, "available", "1"),
            ("b", 20, "available", "0"),  # as it may stand in a file
            ("c", 250, "available", "1"),
        ),
        MARKED,
    )
    tables.check(known, tables.SPLIT_PROPERTIES)
    assert known.sort("window", "item_id", "name").rows() == [
        ("fit", "a", "available", "1"),
        ("fit", "b", "available", "1"),
        ("train", "a", "available", "0"),
        ("train", "a", "categories", "1 > 2"),
        ("train", "b", "available", "1"),
    ]


ROW = st.tuples(
    st.sampled_from("abc"), st.integers(0, 450), st.sampled_from(["x", "y"]), st.text(max_size=2)
)


@settings(deadline=None)
@given(st.lists(ROW, max_size=40, unique_by=lambda row: row[:3]))
def test_no_value_comes_from_the_future(rows: list[Row]) -> None:
    known = as_of_windows(properties(*rows), MARKED)
    for window, end in (("fit", 100), ("train", 200)):
        expected = {
            (item, name): value
            for item, ms, name, value in sorted(rows, key=lambda row: row[1])
            if ms <= end
        }
        found = known.filter(window=window).select("item_id", "name", "value").rows()
        assert {(item, name): value for item, name, value in found} == expected
        assert len(found) == len(expected)


@given(st.lists(ROW, min_size=1, max_size=20, unique_by=lambda row: row[:3]))
def test_what_is_said_later_changes_nothing(rows: list[Row]) -> None:
    early = [row for row in rows if row[1] <= 200]
    assert as_of_windows(properties(*rows), MARKED).equals(
        as_of_windows(properties(*early), MARKED)
    )


def test_nothing_known_is_an_empty_table() -> None:
    tables.check(as_of_windows(properties(), MARKED), tables.SPLIT_PROPERTIES)


TREE = "categoryid,parentid\n1,\n2,1\n3,1\n"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A hundred visits, one a second, and an item that moves to category 3 in the last of them."""
    folder = tmp_path / "raw"
    folder.mkdir()
    events = [f"{second}000,{second % 7},view,{second % 5},\n" for second in range(1, 101)]
    head = "timestamp,visitorid,event,itemid,transactionid\n"
    (folder / "events.csv").write_text(head + "".join(events))
    said = ["2000,0,categoryid,2", "99000,0,categoryid,3", "90000,0,available,1"]
    (folder / "item_properties_part1.csv").write_text(
        "timestamp,itemid,property,value\n" + "\n".join(said) + "\n"
    )
    (folder / "category_tree.csv").write_text(TREE)
    return folder


def run_both(run_ingest: Any) -> Any:
    out = run_ingest("hm_retailrocket", hm_retailrocket={"parts": "retailrocket"})
    params = yaml.safe_load(Path("params.yaml").read_text())
    asked = {"retrievers": ["popular"], "split": {"queries": "moments"}}
    Path("params.yaml").write_text(yaml.safe_dump(params | asked))
    split.main(Path("params.yaml"))
    return out


def test_the_stages_write_no_value_of_the_future(raw: Path, run_ingest: Any) -> None:
    out = run_both(run_ingest)
    assert pl.read_parquet(files.PROPERTIES).height == 3
    known = tables.read(files.SPLIT_PROPERTIES, tables.SPLIT_PROPERTIES)
    # Window fit ends with the 70th second, train with the 80th.
    assert known.rows() == [(window, "rr_0", "categories", "1 > 2") for window in ("fit", "train")]
    items = catalogue.of_window(out["items"], known, "train")
    assert items["categories"].to_list() == [["1", "2"], [], [], [], []]


def test_a_source_without_properties_has_empty_tables(raw: Path, run_ingest: Any) -> None:
    (raw / "item_properties_part1.csv").write_text("timestamp,itemid,property,value\n")
    run_both(run_ingest)
    for path, table in (
        (files.PROPERTIES, tables.PROPERTIES),
        (files.SPLIT_PROPERTIES, tables.SPLIT_PROPERTIES),
    ):
        assert tables.read(path, table).is_empty()


def test_a_split_without_the_table_says_what_to_run(raw: Path, run_ingest: Any) -> None:
    run_both(run_ingest)
    files.PROPERTIES.unlink()
    with pytest.raises(UserError, match=r"properties\.parquet: no such file; run `dvc repro`"):
        split.main(Path("params.yaml"))


def test_times_are_those_of_the_files(raw: Path, run_ingest: Any) -> None:
    run_both(run_ingest)
    times = pl.read_parquet(files.PROPERTIES)["timestamp"].to_list()
    assert times == [datetime.fromtimestamp(second, UTC) for second in (90, 2, 99)]
