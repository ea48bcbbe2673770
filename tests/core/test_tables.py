"""The tables' contract: what is refused, and that writing sorts, checks and never half-writes."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import tables
from stages.core.log import UserError

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def documents(*rows: tuple[str, str, str]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), tables.DOCUMENTS.columns, orient="row")


@pytest.fixture
def frame() -> pl.DataFrame:
    return documents(("train", "b", "B"), ("fit", "b", "B"), ("fit", "a", "A"))


def test_a_table_written_is_read_back_sorted_by_its_key(
    frame: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "documents.parquet"
    tables.write(frame, path, tables.DOCUMENTS)
    back = tables.read(path, tables.DOCUMENTS)
    assert back.select("window", "item_id").rows() == [("fit", "a"), ("fit", "b"), ("train", "b")]
    tables.write(frame.reverse(), tmp_path / "again.parquet", tables.DOCUMENTS)
    assert path.read_bytes() == (tmp_path / "again.parquet").read_bytes()


def test_columns_come_in_the_tables_order(frame: pl.DataFrame) -> None:
    shuffled = frame.select("text", "item_id", "window")
    assert tables.check(shuffled, tables.DOCUMENTS).columns == ["window", "item_id", "text"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: f.drop("text"), "column 'text' is missing"),
        (lambda f: f.with_columns(pl.lit(1).alias("text")), "column 'text' is Int32, expected"),
        (lambda f: f.with_columns(more=pl.lit(1)), "column 'more' is unknown"),
        (lambda f: f.with_columns(text=pl.lit(None, pl.String)), "'text' of documents is null"),
        (lambda f: pl.concat([f, f.head(1)]), "2 rows of documents share a key"),
    ],
)
def test_a_frame_that_breaks_the_contract_is_refused_by_name(
    frame: pl.DataFrame, spoil: object, said: str, tmp_path: Path
) -> None:
    broken = spoil(frame)  # type: ignore[operator]
    path = tmp_path / "documents.parquet"
    with pytest.raises(UserError, match=said):
        tables.write(broken, path, tables.DOCUMENTS)
    assert list(tmp_path.iterdir()) == []
    broken.write_parquet(path)
    with pytest.raises(UserError, match=f"{path}.*{said}"):
        tables.read(path, tables.DOCUMENTS)


def test_the_row_of_a_null_is_named() -> None:
    frame = pl.DataFrame({"user_id": ["u", "v", None, "w"]})
    with pytest.raises(UserError, match="null at row 2"):
        tables.check(frame, tables.USERS)


def test_extra_columns_where_the_table_allows_them() -> None:
    frame = pl.DataFrame({"user_id": ["u"], "age": [30]})
    assert tables.check(frame, tables.USERS).columns == ["user_id", "age"]


def test_large_tables_have_four_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    for rows, groups in ((1, 1), (1_100_000, 2), (2_100_001, 4)):
        users = pl.int_range(rows, eager=True).cast(pl.String).str.zfill(7)
        tables.write(users.to_frame("user_id"), path, tables.USERS)
        assert pq.read_metadata(path).num_row_groups == groups


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; run `dvc repro`"):
        tables.read(tmp_path / "items.parquet", tables.ITEMS)


def test_reading_some_columns_checks_those(frame: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    frame.with_columns(text=pl.lit(1)).write_parquet(path)
    assert tables.read(path, tables.DOCUMENTS, ["item_id"]).columns == ["item_id"]
    with pytest.raises(UserError, match="'text'"):
        tables.read(path, tables.DOCUMENTS, ["text"])


def test_a_folder_is_stacked_in_the_order_asked_for(tmp_path: Path) -> None:
    for name in ("dense", "bm25"):
        row = ("q", "i", name, 1, 0.5)
        frame = pl.DataFrame([row], tables.CANDIDATES.columns, orient="row")
        tables.write(frame, tmp_path / f"{name}.parquet", tables.CANDIDATES)
    stacked = tables.read_folder(tmp_path, ["dense", "bm25"], tables.CANDIDATES)
    assert stacked["retriever"].to_list() == ["dense", "bm25"]


def test_a_vector_of_any_width_is_a_vector_and_a_list_is_not() -> None:
    rows = {"window": ["fit"], "item_id": ["i"], "vector": [[1.0, 2.0]], "model_hash": ["h"]}
    frame = pl.DataFrame(rows).with_columns(pl.col("window").cast(pl.Enum(tables.WINDOWS)))
    vectors = frame.with_columns(pl.col("vector").cast(pl.Array(pl.Float32, 2)))
    assert tables.check(vectors, tables.EMBEDDINGS).height == 1
    with pytest.raises(UserError, match="'vector' is List"):
        tables.check(frame, tables.EMBEDDINGS)


def test_times_are_utc_milliseconds() -> None:
    local = pl.Series("timestamp", [NOW.replace(tzinfo=None)], pl.Datetime("ms"))
    rows = {"event_id": ["e"], "user_id": ["u"], "item_id": ["i"], "timestamp": local}
    rows |= {"event": ["rate"], "value": [5.0], "title": [None], "text": [None]}
    frame = pl.DataFrame(
        rows, schema_overrides={**tables.EVENTS.columns, "timestamp": pl.Datetime("ms")}
    )
    with pytest.raises(UserError, match="'timestamp' is Datetime"):
        tables.check(frame, tables.EVENTS)
    aware = frame.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC"))
    assert tables.check(aware, tables.EVENTS).height == 1


def test_every_split_that_is_queried_has_its_window() -> None:
    assert set(tables.WINDOW_OF_SPLIT) == set(tables.PARTS) - {"fit"}
    assert set(tables.WINDOW_OF_SPLIT.values()) == set(tables.WINDOWS)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=9))
def test_a_key_is_refused_exactly_when_it_stands_twice(keys: list[tuple[str, str]]) -> None:
    pair = tables.Table("pairs", ("a", "b"), {"a": pl.String, "b": pl.String})
    one = tables.Table("ids", ("a",), {"a": pl.String}, extra=True)
    frame = pl.DataFrame(keys, {"a": pl.String, "b": pl.String}, orient="row")
    for table, found in ((pair, keys), (one, [first for first, _ in keys])):
        if len(set(found)) == len(found):
            assert tables.check(frame, table).rows() == keys
        else:
            with pytest.raises(UserError, match="share a key"):
                tables.check(frame, table)


@settings(deadline=None)
@given(st.sets(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=9))
def test_what_is_written_is_sorted_by_the_whole_key(keys: set[tuple[str, str]]) -> None:
    pair = tables.Table("pairs", ("a", "b"), {"a": pl.String, "b": pl.String})
    frame = pl.DataFrame(list(keys), {"a": pl.String, "b": pl.String}, orient="row")
    with TemporaryDirectory() as folder:
        tables.write(frame, Path(folder) / "pairs.parquet", pair)
        assert tables.read(Path(folder) / "pairs.parquet", pair).rows() == sorted(keys)
