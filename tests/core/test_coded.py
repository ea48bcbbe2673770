"""Row groups with codes for ids hold what the table holds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.coded import Coded, coded, coded_by, map_row_groups
from stages.core.log import UserError
from stages.core.tables import EVENTS, TIME

START = datetime(2023, 1, 1, tzinfo=UTC)
COLUMNS = ["timestamp", "item_id"]


def table(ids: list[str]) -> pl.DataFrame:
    """An item an hour."""
    times = [START + timedelta(hours=hour) for hour in range(len(ids))]
    schema = {"item_id": pl.String, "timestamp": TIME, "value": pl.Float64}
    return pl.DataFrame({"item_id": ids, "timestamp": times, "value": [1.0] * len(ids)}, schema)


def read(path: Path) -> list[Coded]:
    return map_row_groups(lambda part: part, path, EVENTS, COLUMNS, "item_id")


def decoded(part: Coded) -> pl.DataFrame:
    return part.rows.select("timestamp", part.ids.gather(part.rows["item_id"]))


@settings(deadline=None)  # It writes files.
@given(st.lists(st.sampled_from(["a", "b", "", "żółw", "a long id of an item"])), st.integers(1, 9))
def test_row_groups_are_those_of_the_table_in_its_order(ids: list[str], size: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        table(ids).write_parquet(path, row_group_size=size)
        parts = read(path)
    assert all(part.ids.is_unique().all() for part in parts)
    assert len(parts) == -(-len(ids) // size)
    found = pl.concat([table([]).select(COLUMNS), *map(decoded, parts)])
    assert found.equals(table(ids).select(COLUMNS))


def test_ids_are_coded_as_they_first_come() -> None:
    codes, ids = coded(pl.Series(["b", "a", "b", ""]))
    assert (codes.tolist(), ids.to_list()) == ([0, 1, 0, 2], ["b", "a", ""])
    codes, ids = coded(pl.Series([], dtype=pl.String))
    assert (len(codes), ids.dtype, len(ids)) == (0, pl.String, 0)
    assert decoded(Coded.of(table(["b", "a", "b"]), "item_id"))["item_id"].to_list() == [*"bab"]


def test_ids_of_one_hash_are_told_apart() -> None:
    ids = pl.Series("item_id", ["b", "a", "b", "c"])
    told = coded_by(pl.Series([7, 3, 7, 0], dtype=pl.UInt64), ids)
    assert told is not None
    assert (told[0].tolist(), told[1].to_list()) == ([0, 1, 0, 2], ["b", "a", "c"])
    assert coded_by(pl.Series([7, 3, 7, 3], dtype=pl.UInt64), ids) is None


@given(st.lists(st.sampled_from(["a", "b", "", "żółw", "an id of more than twelve bytes"])))
def test_codes_by_hash_are_codes_by_string(ids: list[str]) -> None:
    strings = pl.Series("item_id", ids, pl.String)
    by_rank = coded_by(strings.rank("dense").cast(pl.UInt32), strings)
    codes, first = coded(strings)
    assert by_rank is not None
    assert by_rank[0].tolist() == codes.tolist()
    assert first.to_list() == by_rank[1].to_list() == list(dict.fromkeys(ids))


@pytest.mark.parametrize("repeated", [1, 4])
def test_ids_too_many_for_parquet_to_code_are_coded(repeated: int, tmp_path: Path) -> None:
    ids = [f"{n:060d}" for n in range(100_000)] * repeated
    path = tmp_path / "events.parquet"
    table(ids).write_parquet(path)
    parts = read(path)
    assert all(part.ids.is_unique().all() for part in parts)
    assert pl.concat(map(decoded, parts))["item_id"].to_list() == ids


def test_a_file_that_is_missing_or_no_such_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    with pytest.raises(UserError, match=f"{path}: no such file"):
        read(path)
    table(["a"]).with_columns(timestamp=pl.lit("today")).write_parquet(path)
    with pytest.raises(UserError, match=f"{path} is no events table: column 'timestamp' is String"):
        read(path)
