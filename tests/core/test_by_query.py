"""Rows by their queries: those that a join finds, in the order of the tables."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from stages.core.by_query import ByQuery, pieces

ids = st.sampled_from([f"q{n}" for n in range(12)])
tables = st.lists(st.lists(ids, max_size=20), min_size=1, max_size=3)


@given(tables, st.lists(ids, unique=True))
def test_rows_are_those_of_a_join(held: list[list[str]], asked: list[str]) -> None:
    frames = [
        pl.DataFrame(
            {"query_id": rows, "row": range(len(rows))}, {"query_id": pl.String, "row": pl.Int64}
        )
        for rows in held
    ]
    queries = pl.DataFrame({"query_id": asked}, {"query_id": pl.String})
    ordered = pl.concat(frame.sort("query_id", maintain_order=True) for frame in frames)
    expected = ordered.filter(pl.col("query_id").is_in(asked))
    found = ByQuery([frame.sort("query_id", maintain_order=True) for frame in frames]).of(queries)
    assert found.equals(expected)
    unsorted = ByQuery(frames).of(queries)
    assert unsorted.sort("query_id", "row").equals(expected.sort("query_id", "row"))


@given(st.lists(ids, unique=True), st.integers(1, 5))
def test_pieces_hold_every_query_once(asked: list[str], size: int) -> None:
    cut = list(pieces(pl.DataFrame({"query_id": asked}, {"query_id": pl.String}), size))
    assert pl.concat(cut)["query_id"].to_list() == sorted(asked)
    assert all(piece.height == size for piece in cut[:-1])
    assert cut[-1].height <= size
