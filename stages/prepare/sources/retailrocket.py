"""RetailRocket: events, and what items were from when on, as Kaggle published them."""

from pathlib import Path

import polars as pl

from stages.core import tables
from stages.core.catalogue import JOINT
from stages.core.log import UserError, get_logger
from stages.core.params import Retailrocket
from stages.prepare.sources import Ingested
from stages.prepare.sources.delimited import Column, good_rows, id_column, read_columns, text, time
from stages.prepare.sources.described import item_table
from stages.prepare.sources.found import required_files
from stages.prepare.sources.json_lines import BadRows
from stages.prepare.sources.numbering import number_events

log = get_logger(__name__)

PREFIX = "rr_"
PARAMETER = "ingest.hm_retailrocket.retailrocket"
EVENTS = {"view": "view", "addtocart": "cart", "transaction": "purchase"}
CATEGORY = "categoryid"
"""The property of which the category tree has the path; it comes out as `categories`."""


def ingest(settings: Retailrocket, folder: Path, bad: BadRows) -> Ingested:
    """Read the files in `folder`.

    Items are those of the events and of the properties; none has a title. What changes in time is
    in `properties` and never in `items`.

    Raises:
        UserError: a file is not there, a row is bad, or the tree of categories runs in a circle.
    """
    logs = required_files(folder, settings.events, f"{PARAMETER}.events")
    about = required_files(folder, settings.item_properties, f"{PARAMETER}.item_properties")
    trees = required_files(folder, settings.category_tree, f"{PARAMETER}.category_tree")
    rows = pl.concat([_events(path, bad) for path in logs])
    events = number_events(rows.unique())
    paths = {category: path for tree in trees for category, path in category_paths(tree, bad)}
    properties = property_table(
        [_properties(path, settings.properties, bad) for path in about], paths
    )
    return Ingested(
        items=item_table([properties.select("item_id").unique()], events["item_id"]),
        users=events.select(pl.col("user_id").unique().sort()),
        events=events,
        impressions=pl.DataFrame(schema=tables.IMPRESSIONS.columns),
        properties=properties,
        rows=rows.height,
        duplicates=rows.height - events.height,
    )


def property_table(read: list[pl.DataFrame], paths: dict[str, str]) -> pl.DataFrame:
    """Return table `PROPERTIES`; of two values of one moment the one that was read last.

    Args:
        read: item_id, timestamp, name and value, in the files' order.
        paths: the path of each category from the root.
    """
    said = pl.concat([pl.DataFrame(schema=tables.PROPERTIES.columns), *read])
    table = said.unique(tables.PROPERTIES.key, keep="last", maintain_order=True)
    if table.height < said.height:
        log.warning("%d values of a moment that has another", said.height - table.height)
    is_category = pl.col("name") == CATEGORY
    return table.with_columns(
        pl.when(is_category).then(pl.lit("categories")).otherwise("name").alias("name"),
        pl.when(is_category).then(pl.col("value").replace(paths)).otherwise("value").alias("value"),
    )


def category_paths(path: Path, bad: BadRows) -> list[tuple[str, str]]:
    """Return the path of each category of the tree from its root, joined by `JOINT`.

    Raises:
        UserError: a category is above itself, or a row is bad.
    """
    named = {"category": "categoryid", "parent": "parentid"}
    raw = read_columns(path, named, f"{PARAMETER}.category_tree", bad)
    columns = {
        "category": id_column(raw, "category"),
        "parent": id_column(raw, "parent", optional=True),
    }
    parents: dict[str, str | None] = dict(
        good_rows(path, raw, columns, bad, named, unique=["category"]).rows()
    )
    paths = []
    for category in parents:
        steps = [category]
        while (above := parents.get(steps[-1])) is not None:
            if above in steps:
                raise UserError(
                    f"{path}: category {above} is above itself ({JOINT.join(reversed(steps))}); "
                    "correct its parentid"
                )
            steps.append(above)
        paths.append((category, JOINT.join(reversed(steps))))
    return paths


def _events(path: Path, bad: BadRows) -> pl.DataFrame:
    named = {
        "user": "visitorid",
        "item": "itemid",
        "time": "timestamp",
        "event": "event",
        "transaction": "transactionid",
    }
    raw = read_columns(path, named, f"{PARAMETER}.events", bad)
    kind = tables.EVENTS.columns["event"]
    columns = {
        "user_id": id_column(raw, "user", PREFIX),
        "item_id": id_column(raw, "item", PREFIX),
        "timestamp": _time(raw),
        "event": Column(
            "event",
            text("event").replace_strict(EVENTS, default=None, return_dtype=kind),
            f"one of {', '.join(EVENTS)}",
        ),
        "transaction_id": id_column(raw, "transaction", optional=True),
    }
    return good_rows(path, raw, columns, bad, named).with_columns(value=pl.lit(1.0))


def _properties(path: Path, names: list[str], bad: BadRows) -> pl.DataFrame:
    """Read the values of the properties that are named; the other rows are not looked at."""
    named = {"item": "itemid", "time": "timestamp", "name": "property", "value": "value"}
    wanted = text("name").is_in(names) | text("name").is_null()
    raw = read_columns(path, named, f"{PARAMETER}.item_properties", bad, only=wanted)
    columns = {
        "item_id": id_column(raw, "item", PREFIX),
        "timestamp": _time(raw),
        "name": Column("name", text("name"), "a property"),
        "value": Column("value", text("value"), "a value"),
    }
    return good_rows(path, raw, columns, bad, named)


def _time(raw: pl.DataFrame) -> Column:
    made = time("time", raw.schema["time"], "ms")
    return Column("time", made, "a time between 1970 and 2100 (ms)")
