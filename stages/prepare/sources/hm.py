"""H&M: articles, customers, transactions and pictures, as Kaggle published them."""

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from stages.core import tables
from stages.core.log import UserError, get_logger
from stages.core.params import Hm
from stages.prepare.sources import Ingested
from stages.prepare.sources.delimited import (
    Column,
    good_rows,
    id_column,
    id_text,
    number,
    prefixed,
    read_columns,
    text,
    time,
)
from stages.prepare.sources.described import described, item_table
from stages.prepare.sources.found import required_files
from stages.prepare.sources.json_lines import BadRows
from stages.prepare.sources.numbering import number_events

log = get_logger(__name__)

PREFIX = "hm_"
PARAMETER = "ingest.hm_retailrocket.hm"
CATEGORIES = (
    "index_group_name",
    "section_name",
    "garment_group_name",
    "product_group_name",
    "product_type_name",
)
"""What an article is, from the shop's broadest division to the narrowest."""
ATTRIBUTES = (
    "index_name",
    "department_name",
    "graphical_appearance_name",
    "colour_group_name",
    "perceived_colour_value_name",
    "perceived_colour_master_name",
)


def ingest(settings: Hm, folder: Path, bad: BadRows) -> Ingested:
    """Read the files in `folder`.

    An article that was bought and stands in no file is an item without a title; a customer who
    never bought is left out.

    Raises:
        UserError: a file or the folder of pictures is not there, or a row is bad.
    """
    sold = required_files(folder, settings.transactions, f"{PARAMETER}.transactions")
    about = required_files(folder, settings.articles, f"{PARAMETER}.articles")
    who = required_files(folder, settings.customers, f"{PARAMETER}.customers")
    pictures = find_pictures(folder, settings.images)
    events = number_events(pl.concat([_transactions(path, bad) for path in sold]))
    items = item_table([_articles(path, bad) for path in about], events["item_id"])
    shown = pl.Series(list(pictures), dtype=pl.String)
    image = pl.format("{}/{}.jpg", _article().str.head(3), _article())
    items = items.with_columns(image=pl.when(image.is_in(shown.implode())).then(image))
    kept = items["image"].drop_nulls().to_list()
    if len(kept) < len(pictures):
        log.warning("left out %d pictures of no known article", len(pictures) - len(kept))
    users = events.select(pl.col("user_id").unique().sort())
    customers = [_customers(path, bad) for path in who]
    unseen = sum(frame.join(users, on="user_id", how="anti").height for frame in customers)
    return Ingested(
        items=items,
        users=described(users, customers),
        events=events,
        impressions=pl.DataFrame(schema=tables.IMPRESSIONS.columns),
        rows=events.height,
        unseen_users=unseen,
        pictures={name: pictures[name] for name in kept},
    )


def find_pictures(folder: Path, images: str | None) -> dict[str, Path]:
    """Return the pictures by `<first three digits>/<article_id>.jpg`.

    Raises:
        UserError: there is no such folder.
    """
    if images is None:
        return {}
    root = folder / images
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder; put the pictures there, correct {PARAMETER}.images, or set "
            "it to null to go without"
        )
    return {
        f"{path.parent.name}/{path.name}": path
        for path in sorted(root.glob("*/*.jpg"))
        if re.fullmatch(r"(\d{3})/\1\d{7}\.jpg", f"{path.parent.name}/{path.name}")
    }


def _article() -> pl.Expr:
    return pl.col("item_id").str.strip_prefix(PREFIX)


def _article_id(raw: pl.DataFrame) -> Column:
    """Ten digits, of which a file of numbers has lost the leading zero."""
    digits = (
        id_text("article_id", raw.schema["article_id"])
        .str.extract(r"^([0-9]{1,10})$")
        .str.zfill(10)
    )
    return Column("article_id", prefixed(PREFIX, digits), "up to ten digits")


def _transactions(path: Path, bad: BadRows) -> pl.DataFrame:
    """Read units sold."""
    names = ("customer_id", "article_id", "t_dat", "price", "sales_channel_id")
    raw = _read(path, names, "transactions", bad)
    columns = {
        "user_id": id_column(raw, "customer_id", PREFIX),
        "item_id": _article_id(raw),
        "timestamp": Column(
            "t_dat",
            time("t_dat", raw.schema["t_dat"], "day"),
            "a day between 1970 and 2100, such as 2020-09-22",
        ),
        "price": Column("price", number("price"), "a number", optional=True),
        "sales_channel_id": Column(
            "sales_channel_id", text("sales_channel_id"), "text", optional=True
        ),
    }
    kind = tables.EVENTS.columns["event"]
    return good_rows(path, raw, columns, bad).with_columns(
        event=pl.lit("purchase").cast(kind),
        value=pl.lit(1.0),
    )


def _articles(path: Path, bad: BadRows) -> pl.DataFrame:
    """Read item_id, title, description, categories and attributes; what is not said is null."""
    names = ("article_id", "prod_name", "detail_desc", *CATEGORIES, *ATTRIBUTES)
    raw = _read(path, names, "articles", bad, optional=True)
    raw = raw.with_columns(
        pl.lit(None, pl.String).alias(name) for name in names if name not in raw.columns
    )
    ours = {"title": "prod_name", "description": "detail_desc"}
    ours |= {name: name for name in (*CATEGORIES, *ATTRIBUTES)}
    columns = {"item_id": _article_id(raw)} | {
        name: Column(theirs, text(theirs), "text", optional=True) for name, theirs in ours.items()
    }
    rows = good_rows(path, raw, columns, bad, unique=["item_id"])
    path_down = pl.concat_list(CATEGORIES).list.drop_nulls()
    return rows.select(
        "item_id",
        "title",
        "description",
        pl.when(path_down.list.len() > 0).then(path_down).alias("categories"),
        *ATTRIBUTES,
    )


def _customers(path: Path, bad: BadRows) -> pl.DataFrame:
    """Read user_id, age, age_band and what customers subscribed to."""
    names = ("customer_id", "age", "club_member_status", "fashion_news_frequency")
    raw = _read(path, names, "customers", bad)
    age = number("age")
    columns = {
        "user_id": id_column(raw, "customer_id", PREFIX),
        "age": Column(
            "age",
            pl.when(age.is_between(0, 120)).then(age).cast(pl.Int64),
            "an age from 0 to 120",
            optional=True,
        ),
        **{name: Column(name, text(name), "text", optional=True) for name in names[2:]},
    }
    rows = good_rows(path, raw, columns, bad, unique=["user_id"])
    return rows.select("user_id", "age", age_band("age").alias("age_band"), *names[2:])


def age_band(column: str) -> pl.Expr:
    """The ten years of life that an age lies in, as text; one band below 20 and one from 70."""
    age = pl.col(column)
    low = age // 10 * 10
    band = pl.when(age < 70).then(pl.format("{}-{}", low, low + 9)).otherwise(pl.lit("70+"))
    return pl.when(age < 20).then(pl.lit("under 20")).when(age.is_not_null()).then(band)


def _read(
    path: Path, names: Sequence[str], which: str, bad: BadRows, optional: bool = False
) -> pl.DataFrame:
    return read_columns(
        path, {name: name for name in names}, f"{PARAMETER}.{which}", bad, optional=optional
    )
