"""Amazon reviews and metadata in the shapes of 2023, 2018 and 2014, mixed as one likes."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from stages.core import tables
from stages.core.log import UserError, get_logger, progress
from stages.core.params import Ingest
from stages.prepare.sources import Ingested
from stages.prepare.sources.found import found_files
from stages.prepare.sources.json_lines import BadRows, Check, Shape, read

log = get_logger(__name__)

PREFIX = "am_"
EARLIEST_MS = 788_918_400_000
"""1995-01-01, the year of the shop's first sale."""
LATEST_MS = 4_102_444_800_000
"""2100-01-01."""

SAME_REVIEW = ("user_id", "item_id", "variant", "timestamp", "value", "text")
"""Rows that agree in these are one review, published twice.

Titles are left out: the 2018 files hold copies of which only the title differs.
"""


def _id(column: str) -> pl.Expr:
    return pl.concat_str(pl.lit(PREFIX), pl.col(column))


def _time(column: str, factor: int) -> pl.Expr:
    return (pl.col(column).cast(pl.Int64) * factor).cast(tables.TIME)


def _checks(time: str, factor: int, unit: str, rating: str, ids: Sequence[str]) -> list[Check]:
    ms = pl.col(time) * factor
    whole = pl.col(time) == pl.col(time).floor()
    return [
        Check(
            time,
            ~(ms.is_between(EARLIEST_MS, LATEST_MS) & whole),
            f"a time between 1995 and 2100 in {unit} since 1970",
        ),
        Check(rating, ~pl.col(rating).is_between(0, 5), "a rating from 0 to 5"),
        *map(_id_check, ids),
    ]


def _id_check(column: str) -> Check:
    return Check(column, pl.col(column).str.contains(r"^[\[{]|^$"), "an id as text, not empty")


REVIEWS_2023 = Shape(
    "2023",
    {
        "rating": pl.Float64,
        "title": pl.String,
        "text": pl.String,
        "asin": pl.String,
        "parent_asin": pl.String,
        "user_id": pl.String,
        "timestamp": pl.Float64,
        "helpful_vote": pl.Float64,
        "verified_purchase": pl.Boolean,
    },
    ("user_id", "asin", "parent_asin", "timestamp", "rating", "title", "text"),
    [
        _id("user_id").alias("user_id"),
        _id("parent_asin").alias("item_id"),
        pl.col("asin").alias("variant"),
        _time("timestamp", 1).alias("timestamp"),
        pl.col("rating").alias("value"),
        pl.col("title"),
        pl.col("text"),
        pl.col("helpful_vote").cast(pl.Int64),
        pl.col("verified_purchase"),
    ],
    tuple(_checks("timestamp", 1, "milliseconds", "rating", ("user_id", "asin", "parent_asin"))),
)
REVIEWS_2018 = Shape(
    "2018 or 2014",
    {
        "reviewerID": pl.String,
        "asin": pl.String,
        "overall": pl.Float64,
        "unixReviewTime": pl.Float64,
        "summary": pl.String,
        "reviewText": pl.String,
        "vote": pl.String,
        "helpful": pl.List(pl.Int64),
        "verified": pl.Boolean,
    },
    ("reviewerID", "asin", "unixReviewTime", "overall"),
    [
        _id("reviewerID").alias("user_id"),
        _id("asin").alias("item_id"),
        pl.col("asin").alias("variant"),
        _time("unixReviewTime", 1000).alias("timestamp"),
        pl.col("overall").alias("value"),
        pl.col("summary").alias("title"),
        pl.col("reviewText").alias("text"),
        pl.coalesce(
            pl.col("vote").str.replace_all(",", "").cast(pl.Int64, strict=False),
            pl.col("helpful").list.first(),
        ).alias("helpful_vote"),
        pl.col("verified").alias("verified_purchase"),
    ],
    tuple(_checks("unixReviewTime", 1000, "seconds", "overall", ("reviewerID", "asin"))),
)


def _metadata_shape(name: str, key: str, of: dict[str, Sequence[str]]) -> Shape:
    """A metadata shape whose every column is read as text; `of` maps our names to theirs."""
    raw = [key, *(column for columns in of.values() for column in columns)]
    return Shape(
        name,
        dict.fromkeys(raw, pl.String),
        (key,),
        [_id(key).alias("item_id"), *(pl.coalesce(*of[ours]).alias(ours) for ours in of)],
        (_id_check(key),),
    )


METADATA_2023 = _metadata_shape(
    "2023 metadata",
    "parent_asin",
    {
        "title": ["title"],
        "description": ["description"],
        "features": ["features"],
        "categories": ["categories"],
        "main_category": ["main_category"],
        "brand": ["store"],
        "price": ["price"],
        "image": ["images"],
        "details": ["details"],
        # average_rating and rating_number count reviews of every split, so they stay out.
    },
)
METADATA_2018 = _metadata_shape(
    "2018 or 2014 metadata",
    "asin",
    {
        "title": ["title"],
        "description": ["description"],
        "features": ["feature"],
        "categories": ["category", "categories"],
        "main_category": ["main_cat"],
        "brand": ["brand"],
        "price": ["price"],
        "image": ["imageURLHighRes", "image", "imageURL", "imUrl"],
        "details": ["details"],
    },
)


def ingest(options: Ingest, folder: Path) -> Ingested:
    """Read the review and metadata files in `folder` that the parameters name.

    Raises:
        UserError: the folder or review files are not there, hold no review, or a line is bad.
    """
    metadata_files = found_files(folder, options.amazon.metadata, "ingest.amazon")
    review_files = [
        path
        for path in found_files(folder, options.amazon.reviews, "ingest.amazon")
        if path not in metadata_files and not path.name.startswith("meta_")
    ]
    if not review_files:
        raise UserError(
            f"{folder}: no file matches {', '.join(options.amazon.reviews)}; put review files "
            "there or correct ingest.folder or ingest.amazon.reviews"
        )
    bad = BadRows(options.on_bad_row, options.max_bad_rows)
    reviews = pl.concat(_read_all(review_files, (REVIEWS_2023, REVIEWS_2018), bad)).rechunk()
    if reviews.is_empty():
        raise UserError(f"{', '.join(map(str, review_files))}: no review in the files")
    rows = reviews.height + bad.count
    with ThreadPoolExecutor(1) as pool:  # Events are numbered while the other tables are made.
        numbering = pool.submit(number_events, reviews)
        metadata = _read_all(metadata_files, (METADATA_2023, METADATA_2018), bad)
        items = item_table(metadata, reviews["item_id"].unique())
        users = reviews.select(pl.col("user_id").unique().sort())
        events, duplicates = numbering.result()
    if bad.count:
        log.warning("left out %d bad lines in all", bad.count)
    return Ingested(
        items=items,
        users=users,
        events=events,
        impressions=pl.DataFrame(schema=tables.IMPRESSIONS.columns),
        rows=rows,
        duplicates=duplicates,
        bad_rows=bad.count,
    )


def number_events(reviews: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return events, sorted by id, and how many exact duplicates were left out.

    An id is `{user}:{item}:{ms}`, and for the n-th further review of the same key, in the order of
    their texts, `{user}:{item}:{ms}:{n}`. What is kept does not depend on the order of the rows.
    """
    ids = reviews.select(
        pl.concat_str(
            "user_id", "item_id", pl.col("timestamp").dt.epoch("ms"), separator=":"
        ).alias("event_id")
    ).to_series()
    order = _string_order(ids)
    ids = ids.gather(order)
    again = (ids == ids.shift(1)).fill_null(False)
    shared = again | again.shift(-1, fill_value=False)
    further = pl.col("n") > 0
    clashing = (
        reviews[order.filter(shared)]
        .with_columns(ids.filter(shared), row=order.filter(shared))
        .sort(
            "event_id",
            "text",
            "user_id",
            "value",
            "variant",
            "title",
            "helpful_vote",
            "verified_purchase",
            nulls_last=True,
        )
        .with_columns(first=pl.struct(SAME_REVIEW).is_first_distinct(), place=shared.arg_true())
        .with_columns(n=pl.col("first").cum_sum().over("event_id") - 1)
        .with_columns(
            pl.when(further).then(pl.format("{}:{}", "event_id", "n")).otherwise("event_id")
        )
    )
    keep = pl.repeat(True, len(ids), eager=True).scatter(clashing["place"], clashing["first"])
    ids = ids.scatter(clashing["place"], clashing["event_id"]).filter(keep)
    order = order.scatter(clashing["place"], clashing["row"]).filter(keep)
    events = reviews[order].select(
        ids.alias("event_id"),
        "user_id",
        "item_id",
        "timestamp",
        pl.lit("rate").cast(tables.EVENTS.columns["event"]).alias("event"),
        "value",
        "title",
        "text",
        "helpful_vote",
        "verified_purchase",
    )
    if clashing.filter(further).height:  # A number behind a key may sort before a longer key.
        events = events.sort("event_id")
    return events, reviews.height - events.height


def item_table(metadata: Sequence[pl.DataFrame], reviewed: pl.Series) -> pl.DataFrame:
    """Return one row for every item with metadata or reviews; of two metadata rows the first."""
    described = pl.concat(metadata).unique("item_id", keep="first", maintain_order=True)
    ids = pl.concat([described["item_id"], reviewed]).unique().sort()
    log.info("%d items, %d of them with metadata", len(ids), described.height)
    lists = described.select(
        "item_id",
        *(
            pl.Series(name, [_strings(text) for text in described[name]], pl.List(pl.String))
            for name in ("features", "categories", "description")
        ),
        pl.Series("image", [_first_image(text) for text in described["image"]], pl.String),
    )
    return (
        ids.to_frame()
        .join(
            described.drop("features", "categories", "description", "image"),
            on="item_id",
            how="left",
            maintain_order="left",
        )
        .join(lists, on="item_id", how="left", maintain_order="left")
        .select(
            "item_id",
            _clean("title"),
            _or_null(pl.col("description").list.join(" ")).alias("description"),
            pl.col("features").fill_null([]),
            pl.when(pl.col("categories").list.len() > 0)
            .then("categories")
            .otherwise(pl.concat_list(_clean("main_category")).list.drop_nulls())
            .fill_null([])
            .alias("categories"),
            _clean("brand"),
            price("price").alias("price"),
            "image",
            pl.when(pl.col("details") != "{}").then("details").alias("details"),
        )
    )


def price(column: str) -> pl.Expr:
    """Read a price from a number or a text like `$12.99`, `from 5.00` or `$9 - $12`, else null."""
    number = (
        r"(?i)^\s*(?:from\s+)?(?:us|usd)?\s*[$€£]?\s*(\d[\d,]*(?:\.\d+)?)(?:\s*[-–]\s*\S+)?\s*$"
    )
    text = pl.col(column).str.extract(number, 1).str.replace_all(",", "")
    return text.cast(pl.Float64, strict=False)


def _read_all(paths: Sequence[Path], shapes: tuple[Shape, ...], bad: BadRows) -> list[pl.DataFrame]:
    """Read files one after the other; the first frame is an empty one that names the columns."""
    frames = [pl.DataFrame(schema=shapes[0].schema).select(shapes[0].columns)]
    size = sum(path.stat().st_size for path in paths)
    with progress(total=size, unit="B", unit_scale=True, desc="read") as bar:
        for path in paths:
            frames += read(path, shapes, bad, bar.update)
    return frames


def _string_order(values: pl.Series) -> pl.Series:
    """Return the order that sorts strings bytewise.

    Ids share a prefix; the eight bytes behind it, as one number, settle most comparisons at a
    fraction of the cost, and only rows that agree in them are compared as strings.
    """
    low, high = str(values.min()).encode(), str(values.max()).encode()
    skip = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    if (values.str.len_bytes() < skip + 8).any():
        return values.arg_sort()
    head = values.cast(pl.Binary).bin.slice(skip, 8)
    number = head.bin.reinterpret(dtype=pl.UInt64, endianness="big")
    keys = pl.DataFrame({"number": number, "string": values})
    return keys.select(pl.arg_sort_by("number", "string")).to_series()


def _strings(text: str | None) -> list[str]:
    """Read a JSON list, at any depth, or a plain text, as the strings in it."""
    if text is None:
        return []
    value: Any = text
    if text.startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            value = text
    return [part for part in _flat(value) if part]


def _flat(value: Any) -> list[str]:
    if isinstance(value, list):
        return [part for inner in value for part in _flat(inner)]
    return [] if value is None else [str(value).strip()]


def _first_image(text: str | None) -> str | None:
    """Read the first URL from a list of URLs, a list of sizes by name, or a plain URL.

    Some copies of the 2023 files hold the sizes as columns: a list of URLs for each.
    """
    if text is None or not text.startswith(("[", "{")):
        return text or None
    value = json.loads(text)
    for image in value if isinstance(value, list) else [value]:
        sizes = [image]
        if isinstance(image, dict):
            sizes = [image.get(size) for size in ("hi_res", "large", "thumb")]
        for found in sizes:
            url = next(filter(None, found), None) if isinstance(found, list) else found
            if url:
                return str(url)
    return None


def _clean(column: str) -> pl.Expr:
    return _or_null(pl.col(column).str.strip_chars()).alias(column)


def _or_null(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)
