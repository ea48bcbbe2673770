"""Parameters of what is read and how it is split."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from stages.core.params.section import (
    Event,
    Fraction,
    Positive,
    Section,
)


class Sample(Section):
    """Scale of the generated shop. The same numbers and seed give the same bytes."""

    reviews: Annotated[int, Field(ge=200)] = Field(6000, description="Reviews to generate.")
    items: Annotated[int, Field(ge=20)] = Field(600, description="Items in the catalogue.")
    users: Annotated[int, Field(ge=20)] = Field(1500, description="Users who may write and see.")
    impressions: Annotated[int, Field(ge=0)] = Field(
        20000, description="Impressions with clicks and conversions."
    )
    pictures: Annotated[int, Field(ge=0)] = Field(
        60, description="Items, the first of the catalogue, for which a product picture is drawn."
    )


class Amazon(Section):
    """Amazon review files, one shape or several; names are globs inside `ingest.folder`."""

    reviews: list[str] = Field(
        ["*.jsonl*", "*.json*"],
        min_length=1,
        description="Globs of review files; `meta_*` is left out.",
    )
    metadata: list[str] = Field(
        ["meta_*"], description="Globs of metadata files; may match nothing."
    )


class Columns(Section):
    """What the columns of a log are called; `column_0` and so on in a file without a header."""

    user: str = Field("user_id", description="Who.")
    item: str = Field("item_id", description="What.")
    time: str | None = Field("timestamp", description="When; null where nobody knows.")
    event: str | None = Field(None, description="What was done; null where all is one event.")
    value: str | None = Field(None, description="A rating or weight; null for 1.")


class ItemFile(Section):
    """A file that says something of items: one row an item, or one for each of its categories."""

    file: str
    columns: dict[Literal["item_id", "title", "description", "categories", "brand", "price"], str]
    separator: str = ","
    header: bool = True
    list_separator: str = "|"


class Interactions(Section):
    """A log of who did what when, CSV (also .gz) or parquet; its lists are rows of their own."""

    events: list[str] = Field(
        ["*.csv*", "*.parquet"], min_length=1, description="Globs of the log's files."
    )
    columns: Columns = Columns()
    separator: str = Field(",", min_length=1, max_length=1, description="Between columns of CSV.")
    header: bool = Field(True, description="Whether the first line of CSV names the columns.")
    time_unit: Literal["s", "ms", "iso"] = Field(
        "ms", description="Seconds or milliseconds since 1970, or text as in ISO 8601."
    )
    event: Event = Field("purchase", description="What was done, where no column says it.")
    events_named: dict[str, Event] = Field(
        {}, description="Names that the log has for events, such as `addtocart: cart`."
    )
    items: list[ItemFile] = Field(
        [],
        description="Files about items: `file`, a glob, and `columns`, a mapping of `item_id`, "
        "`title`, `description`, `categories`, `brand` or `price` to theirs; also `separator`, "
        "`header` and `list_separator` of categories.",
    )

    @model_validator(mode="after")
    def _items_have_ids(self) -> Self:
        for about in self.items:
            if "item_id" not in about.columns:
                raise ValueError(f"items: the columns of {about.file!r} name no item_id")
        return self


class Hm(Section):
    """H&M's files, as Kaggle has them; names are globs inside `ingest.folder`."""

    articles: list[str] = Field(
        ["articles*.csv*", "articles*.parquet"],
        description="Articles, CSV (also .gz) or parquet; of what several files say of one, that "
        "of the first counts. Without a glob, articles are what was bought.",
    )
    customers: list[str] = Field(["customers*.csv*"], description="Customers; may be empty.")
    transactions: list[str] = Field(
        ["transactions*.csv*"], min_length=1, description="Transactions: a unit sold is a row."
    )
    images: str | None = Field(
        "images",
        description="Folder of pictures, `<first three digits>/<article_id>.jpg`, which are "
        "copied; null for none.",
    )


class Retailrocket(Section):
    """RetailRocket's files, as Kaggle has them; names are globs inside `ingest.folder`."""

    events: list[str] = Field(["events*.csv*"], min_length=1, description="Who did what when.")
    item_properties: list[str] = Field(
        ["item_properties*.csv*"], description="Properties of items over time; may be empty."
    )
    category_tree: list[str] = Field(
        ["category_tree*.csv*"],
        description="Parents of categories; without it a category stands alone.",
    )
    properties: list[str] = Field(
        ["categoryid", "available"],
        description="Properties that are read: these, or hashed ones by their number.",
    )


class HmRetailrocket(Section):
    """Two shops, one or both: ids are `hm_` and `rr_` and theirs, column `part` names the shop."""

    parts: Literal["both", "hm", "retailrocket"] = Field("both", description="Which are read.")
    hm: Hm = Hm()
    retailrocket: Retailrocket = Retailrocket()


class HomepageFeed(Section):
    """A feed's log of what was shown and clicked, with tags of users and items."""

    log: list[str] = Field(
        ["shop*.dat*"], min_length=1, description="Globs of the log: ts, uid, iid, label."
    )
    user_features: list[str] = Field(
        ["user_feature*.dat*"], description="Globs of uid, utag1, utag2; may be empty."
    )
    item_features: list[str] = Field(
        ["item_feature*.dat*"], description="Globs of iid, itag1, itag2, itag3; may be empty."
    )
    separator: str = Field(",", min_length=1, max_length=1, description="Between columns.")
    header: bool = Field(False, description="Whether the first line names the columns.")
    time_unit: Literal["s", "ms", "iso"] = Field(
        "ms", description="Seconds or milliseconds since 1970, or text as in ISO 8601."
    )


class Ingest(Section):
    """Raw files to items, users, events and impressions."""

    source: Literal["sample", "amazon", "interactions", "hm_retailrocket", "homepage_feed"] = Field(
        "sample", description="Which reader runs."
    )
    folder: Path = Field(Path("data/raw"), description="Folder of the raw files, watched by DVC.")
    on_bad_row: Literal["fail", "skip"] = Field(
        "fail", description="A bad line ends the run, or is counted, logged and left out."
    )
    max_bad_rows: Annotated[int, Field(ge=0)] = Field(
        100, description="With `skip`: more bad lines than this end the run all the same."
    )
    sample: Sample = Sample()
    amazon: Amazon = Amazon()
    interactions: Interactions = Interactions()
    hm_retailrocket: HmRetailrocket = HmRetailrocket()
    homepage_feed: HomepageFeed = HomepageFeed()


class Split(Section):
    """Cuts in time, or each user's last events, and the slice that re-rankers learn from."""

    method: Literal["fractions", "cutoffs", "leave_last_out"] = Field(
        "fractions",
        description="Cuts in time, by shares (of shops side by side, of each its own) or by "
        "moments; or by user: the last event is test, the one before it valid, the one before that "
        "rank.",
    )
    queries: Literal["reviews", "moments"] = Field(
        "reviews",
        description="A held-out review asks in its words; or all that a user did at one time is "
        "asked for without any.",
    )
    train: Fraction = Field(0.8, description="Share of events, oldest first, that is train.")
    valid: Fraction = Field(0.1, description="Share that follows and is valid; the rest is test.")
    train_end_ms: int | None = Field(None, description="Last millisecond of train (`cutoffs`).")
    valid_end_ms: int | None = Field(None, description="Last millisecond of valid (`cutoffs`).")
    rank: Fraction = Field(
        0.125, description="Share of train, its end, that re-rankers learn from."
    )
    min_user_events: Positive = Field(
        1, description="Users of fewer events in the whole log are left out."
    )
    min_item_events: Positive = Field(
        1, description="Items of fewer events in the whole log are left out."
    )
    max_queries: Positive | None = Field(
        None, description="Held-out queries of a split at the most, drawn; null for all."
    )
    core: bool = Field(
        False, description="Both minimums until all that is left has them (k-core); else once."
    )

    @model_validator(mode="after")
    def _cuts(self) -> Self:
        if self.train + self.valid >= 1:
            raise ValueError("train + valid must leave something for test")
        if self.method == "cutoffs":
            if self.train_end_ms is None or self.valid_end_ms is None:
                raise ValueError("method cutoffs needs train_end_ms and valid_end_ms")
            if self.train_end_ms >= self.valid_end_ms:
                raise ValueError("train_end_ms must be before valid_end_ms")
        return self
