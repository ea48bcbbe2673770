"""Row groups with codes for ids hold what the table holds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.coded import Coded, coded_ids, map_row_groups
from stages.core.log import UserError
from stages.core.tables import EVENTS, TIME

START = datetime(2023, 1, 1, tzinfo=UTC)
COLUMNS = ["timestamp", "item_id"]


def table(ids: list[str]) -> pl.DataFrame:
    """An item an hour."""
    times = [START + timedelta(hours=hour) for hour in range(len(ids))]
    schema = {"item_id": pl.String, "timestamp": TIME, "value": pl.Float64}
    return pl.DataFrame({"item_id": ids, "timestamp": times, "value": [1.0] * len(ids)}, schema)


def decoded(part: Coded) -> pl.DataFrame:
    return part.rows.select("timestamp", part.ids.cast(pl.String).gather(part.rows["item_id"]))


@settings(deadline=None)  # It writes files.
@given(st.lists(st.sampled_from(["a", "b", "", "żółw", "a long id of an item"])), st.integers(1, 9))
def test_row_groups_are_those_of_the_table_in_its_order(ids: list[str], size: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        table(ids).write_parquet(path, row_group_size=size)
        parts = map_row_groups(lambda part: part, path, EVENTS, COLUMNS, "item_id")
    assert all(part.ids.is_unique().all() for part in parts)
    assert len(parts) == -(-len(ids) // size)
    found = pl.concat([table([]).select(COLUMNS), *map(decoded, parts)])
    assert found.equals(table(ids).select(COLUMNS))


def test_equal_ids_of_two_frames_are_one_number() -> None:
    one, other = (Coded.of(table(ids), "item_id") for ids in (["a", "b", "a"], ["c", "b"]))
    for part, ids in ((one, ["a", "b", "a"]), (other, ["c", "b"])):
        assert decoded(part)["item_id"].to_list() == ids
        numbers = part.ids.gather(part.rows["item_id"]).to_physical()
        assert coded_ids().gather(numbers).to_list() == ids


def test_ids_too_many_for_parquet_to_code_are_coded(tmp_path: Path) -> None:
    ids = [f"{n:060d}" for n in range(50_000)] * 2
    path = tmp_path / "events.parquet"
    table(ids).write_parquet(path)
    (part,) = map_row_groups(lambda part: part, path, EVENTS, COLUMNS, "item_id")
    assert decoded(part)["item_id"].to_list() == ids
    assert len(part.ids) == 50_000


def test_rows_up_to_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    table(["a", "b", "a", "c"]).write_parquet(path)
    (part,) = map_row_groups(lambda part: part, path, EVENTS, COLUMNS, "item_id")
    third = START + timedelta(hours=2)
    kept = decoded(part.up_to(int(third.timestamp() * 1000)))
    assert kept["item_id"].to_list() == ["a", "b", "a"]


def test_a_file_that_is_missing_or_no_such_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    with pytest.raises(UserError, match=f"{path}: no such file"):
        map_row_groups(lambda part: part, path, EVENTS, COLUMNS, "item_id")
    table(["a"]).with_columns(timestamp=pl.lit("today")).write_parquet(path)
    with pytest.raises(UserError, match=f"{path} is no events table: column 'timestamp' is String"):
        map_row_groups(lambda part: part, path, EVENTS, COLUMNS, "item_id")
