"""Events in; events marked fit, rank, valid or test, queries, what items were then, out."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import UserError, get_logger, run
from stages.core.params import Split, load_params
from stages.core.parts import COLUMN, Parts
from stages.core.storage import write_json

log = get_logger(__name__)


def cuts(timestamps: pl.Series, options: Split) -> dict[str, int]:
    """Return the last millisecond of fit, of train (fit and rank) and of valid.

    A share is counted in events; all events of the millisecond on a cut are on its earlier side.
    """
    times = timestamps.dt.epoch("ms").sort()
    train_end, valid_end = options.train_end_ms, options.valid_end_ms
    if options.method == "fractions" or train_end is None or valid_end is None:
        train_end = _last(times, options.train)
        valid_end = _last(times, options.train + options.valid)
    train = times.filter(times <= train_end)
    fit_end = _last(train, 1 - options.rank) if len(train) else train_end
    return {"fit": fit_end, "rank": train_end, "valid": valid_end}


def mark(events: pl.DataFrame, ends: dict[str, int]) -> pl.DataFrame:
    """Add the column `split` by the last milliseconds of fit, rank and valid.

    Raises:
        UserError: a part is empty.
        AssertionError: the parts overlap in time.
    """
    marked = events.with_columns(_split_of(ends))
    _assert_all_parts(marked)
    _assert_in_order(marked)
    return marked


def mark_apart(
    events: pl.DataFrame, shop: pl.Series, options: Split
) -> tuple[pl.DataFrame, dict[str, dict[str, int]]]:
    """Add the column `split` to shops side by side, each cut at shares of its own events.

    Their logs may be of different years; cut at one moment, all of the older would be fit. A shop's
    window then holds nothing of it that is later than its own cut, and of another shop what is
    before that one's, which may be years later. For what is fitted on each shop that is of no
    matter: no user and no item is of two. What is fitted on all of them, such as the weights of
    `two_tower` and of encoders, is asked about the older shop with the newer one's later years in
    it.

    Args:
        events: an events table.
        shop: the part of each event.
        options: the shares.

    Returns:
        the events, and by shop what `cuts` returns of it.

    Raises:
        UserError: a shop has no event in some split.
    """
    ends = {
        name: cuts(events["timestamp"].filter(shop == name), options)
        for name in shop.unique().sort()
    }
    own = {
        part: shop.replace_strict({name: of[part] for name, of in ends.items()}, default=None)
        for part in tables.PARTS[:-1]
    }
    marked = events.with_columns(_split_of(own))
    for name in ends:
        mine = marked.filter(shop == name)
        _assert_all_parts(mine, f" of part {name} of the shop")
        _assert_in_order(mine)
    return marked, ends


def leave_last_out(events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Add the column `split` by each user's own order; what is tied in time is drawn by `seed`.

    No cut in time: what answers a user's question has learned from what others did after it.
    Where all events have one time, it is a hold-out per user at random.

    Raises:
        UserError: a part is empty.
    """
    from stages.prepare.splitting.last_out import in_sequence, mark_last

    marked = mark_last(in_sequence(events, seed))
    _assert_all_parts(marked)
    return marked


def review_queries(events: pl.DataFrame, most: int | None = None, seed: int = 0) -> pl.DataFrame:
    """Return a query for each review with text in rank, valid and test, as its moment knew it.

    Args:
        events: with the column split.
        most: queries of a split; more are drawn from by the seed.
        seed: decides the draw.
    """
    from stages.prepare.splitting.histories import histories

    held_out = (pl.col("split") != "fit") & (pl.col("event") == "rate")
    asked = events.select("event_id", "user_id", "item_id", "timestamp", "text", "split", "event")
    rows = asked.with_row_index("row").filter(held_out)
    rows = rows.filter((pl.col("text").str.strip_chars() != "").fill_null(False))
    rows = _drawn(rows, most, seed)
    return rows.select(
        pl.col("event_id").alias("query_id"),
        "user_id",
        "timestamp",
        "text",
        history=histories(events, rows["row"]),
        targets=pl.concat_list("item_id"),
        split="split",
    )


def moment_queries(events: pl.DataFrame, most: int | None = None, seed: int = 0) -> pl.DataFrame:
    """Return a query without words for each user and moment in rank, valid and test.

    Its targets are what the user chose then, all at once; its id is that of the first of these
    events. For the arguments see `review_queries`.
    """
    from stages.prepare.splitting.histories import histories

    held_out = events.with_row_index("row").filter(pl.col("split") != "fit")
    moments = (
        held_out.sort("user_id", "timestamp", "event_id")
        .group_by("user_id", "timestamp", maintain_order=True)
        .agg(
            pl.first("event_id", "row", "split"),
            targets=pl.col("item_id").unique().sort(),
        )
        .sort("event_id")
    )
    moments = _drawn(moments, most, seed)
    return moments.select(
        pl.col("event_id").alias("query_id"),
        "user_id",
        "timestamp",
        text=pl.lit(None, pl.String),
        history=histories(events, moments["row"]),
        targets="targets",
        split="split",
    )


def parts_of(items: Path, users: Path) -> Parts | None:
    """Read the parts of the shop off the tables of items and users; None where it is one."""
    tables_of = ((items, tables.ITEMS), (users, tables.USERS))
    if any(COLUMN not in tables.columns_of(path, table) for path, table in tables_of):
        return None
    return Parts.of(*(tables.read(path, table, [*table.key, COLUMN]) for path, table in tables_of))


def _drawn(asked: pl.DataFrame, most: int | None, seed: int) -> pl.DataFrame:
    """Keep `most` rows of each split, in their order."""
    if most is None:
        return asked
    lots = pl.Series(np.random.default_rng(seed).permutation(asked.height))
    place = lots.to_frame("lot").select(pl.col("lot").rank("ordinal").over(asked["split"]))
    return asked.filter(place.to_series() <= most)


def _ends_ms(ends: Mapping[str, int]) -> dict[str, int | None]:
    """The cuts as they are written, null where there is none."""
    named = {"fit_end_ms": "fit", "train_end_ms": "rank", "valid_end_ms": "valid"}
    return {name: ends.get(part) for name, part in named.items()}


def _split_of(ends: Mapping[str, int | pl.Series]) -> pl.Expr:
    """The split of an event by the last milliseconds of fit, rank and valid, of all or of each."""
    time = pl.col("timestamp").dt.epoch("ms")
    part = (
        pl.when(time <= ends["fit"])
        .then(pl.lit("fit"))
        .when(time <= ends["rank"])
        .then(pl.lit("rank"))
        .when(time <= ends["valid"])
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test"))
    )
    return part.cast(pl.Enum(tables.PARTS)).alias("split")


def _last(times: pl.Series, share: float) -> int:
    """The time of the event at which `share` of the sorted times ends."""
    return int(times[max(round(len(times) * share), 1) - 1])


def _assert_all_parts(marked: pl.DataFrame, of: str = "") -> None:
    held = set(marked["split"].unique())
    for part in tables.PARTS:
        if part not in held:
            raise UserError(
                f"split leaves no event{of} for {part!r}: {marked.height} events of "
                f"{marked['user_id'].n_unique()} users and {marked['timestamp'].n_unique()} "
                "different times; change the shares, cut-offs or method of split in the params file"
            )


def _assert_in_order(marked: pl.DataFrame) -> None:
    found = marked.group_by("split").agg(
        first=pl.col("timestamp").min(), last=pl.col("timestamp").max()
    )
    spans = {part: (first, last) for part, first, last in found.iter_rows()}
    for earlier, later in zip(tables.PARTS, tables.PARTS[1:], strict=False):
        if not spans[earlier][1] < spans[later][0]:
            raise AssertionError(f"{earlier} ends at {spans[earlier][1]}, after {later} begins")


def main(
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    items: Path = files.ITEMS,
    users: Path = files.USERS,
    events: Path = files.EVENTS,
    split_events: Path = files.SPLIT_EVENTS,
    queries: Path = files.REVIEW_QUERIES,
    properties: Path = files.PROPERTIES,
    split_properties: Path = files.SPLIT_PROPERTIES,
    cuts_file: Annotated[Path, typer.Option("--cuts")] = files.CUTS,
) -> None:
    """Cut events, make the queries that held-out ones are, and keep what items were."""
    from stages.prepare.splitting.filters import frequent
    from stages.prepare.splitting.properties import as_of_windows

    params = load_params(params_file)
    given = tables.read(events, tables.EVENTS)
    table = frequent(given, params.split)
    timed = table["timestamp"].n_unique() > 1
    parts = parts_of(items, users)
    ends: dict[str, int] = {}
    apart: dict[str, dict[str, int]] = {}
    if params.split.method == "leave_last_out":
        marked = leave_last_out(table, params.seed)
    elif params.split.method == "fractions" and parts is not None:
        marked, apart = mark_apart(table, parts.of_events(table), params.split)
    else:
        ends = cuts(table["timestamp"], params.split)
        marked = mark(table, ends)
    with ThreadPoolExecutor(1) as writer:  # Texts compress while histories are looked up.
        writing = writer.submit(tables.write, marked, split_events, tables.SPLIT_EVENTS)
        make = review_queries if params.split.queries == "reviews" else moment_queries
        asked = make(marked, params.split.max_queries, params.seed)
        tables.write(asked, queries, tables.QUERIES)
        known = as_of_windows(tables.read(properties, tables.PROPERTIES), marked, parts)
        tables.write(known, split_properties, tables.SPLIT_PROPERTIES)
        writing.result()
    counted = {part: int((marked["split"] == part).sum()) for part in tables.PARTS}
    asking = {part: int((asked["split"] == part).sum()) for part in tables.PARTS[1:]}
    written = {
        "method": params.split.method,
        "timed": timed,
        **_ends_ms(ends),
        "events": counted,
        "queries": asking,
    }
    # Shops that are cut apart have no cut in common.
    own = {"parts": {name: _ends_ms(of) for name, of in apart.items()}} if apart else {}
    write_json(cuts_file, written | own)
    log.info("%d events in, %d kept: %s; queries: %s", given.height, table.height, counted, asking)


if __name__ == "__main__":
    run(main)
