"""The parts of a document and how they are joined; `pairs` joins them without one review."""

from collections.abc import Sequence

import polars as pl

from stages.core.log import UserError
from stages.enrich.text.lines import has_characters, one_line


def rank_keywords(keywords: pl.DataFrame, limit: int | None = None) -> pl.DataFrame:
    """Rank each item's keywords by how many of its reviews name them, ties alphabetically.

    Args:
        keywords: event_id, item_id and the list keywords, one row a review.
        limit: ranks to keep; None for all.

    Returns:
        item_id, keyword, reviews, rank (from 1), sorted by item and rank.
    """
    ranked = (
        keywords.select("item_id", pl.col("keywords").list.unique(maintain_order=True))
        .explode("keywords", empty_as_null=False)
        .group_by("item_id", pl.col("keywords").alias("keyword"))
        .agg(pl.len().alias("reviews"))
        .sort("item_id", "reviews", "keyword", descending=[False, True, False])
        .with_columns((pl.int_range(pl.len(), dtype=pl.UInt32).over("item_id") + 1).alias("rank"))
    )
    return ranked if limit is None else ranked.filter(pl.col("rank") <= limit)


def in_order(keywords: pl.Expr, order: str) -> pl.Expr:
    """Return lists of ranked keywords in the order of `Documents.keyword_order`."""
    return keywords.list.sort() if order == "alphabet" else keywords


def quote_reviews(reviews: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Return item_id and quotes: each item's newest reviews that have text, newest first.

    A quote is one line, "title. text"; of two reviews at one time the smaller event_id comes first.
    """
    title = one_line(pl.col("title")).str.strip_chars_end(". ")
    parts = pl.when(title.str.len_chars() > 0).then(title), one_line(pl.col("text"))
    return (
        reviews.filter(has_characters(pl.col("text")))
        .sort("timestamp", "event_id", descending=[True, False])
        .filter(pl.int_range(pl.len()).over("item_id") < limit)
        .select("item_id", pl.concat_str(*parts, separator=". ", ignore_nulls=True).alias("quotes"))
        .group_by("item_id", maintain_order=True)
        .agg("quotes")
    )


def with_attributes(items: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Put the values of columns before an item's features: those of a list one by one, nulls none.

    Raises:
        UserError: items have no such column.
    """
    if missing := [name for name in names if name not in items.columns]:
        raise UserError(
            f"documents.attributes names {', '.join(missing)}, and items have "
            f"{', '.join(items.columns)}; correct it in the params file"
        )
    values = [
        pl.col(name).cast(pl.List(pl.String))
        if isinstance(items.schema[name], pl.List)
        else pl.concat_list(pl.col(name).cast(pl.String))
        for name in names
    ]
    features = pl.concat_list(*values, "features").list.drop_nulls()
    return items.with_columns(features=features) if names else items


def document_text(
    title: pl.Expr, keywords: pl.Expr, summary: pl.Expr, features: pl.Expr, quotes: pl.Expr
) -> pl.Expr:
    """Join the parts that exist into a document's text, null where none does.

    The first line is `[Title] ... [Review Keywords] a, b [Description Summary] ... [Features] a;
    b`; each quote is a line, the first of them opened by `[Reviews] `.

    Args:
        title: a line or null.
        keywords: a list of keywords in their order, or null.
        summary: a line or null.
        features: a list of lines or null.
        quotes: a list of lines or null.
    """
    parts = {
        "Title": title,
        "Review Keywords": keywords.list.join(", "),
        "Description Summary": summary,
        "Features": features.list.join("; "),
    }
    first_line = pl.concat_str(
        [
            pl.when(text.str.len_chars() > 0).then(pl.format(f"[{name}] {{}}", text))
            for name, text in parts.items()
        ],
        separator=" ",
        ignore_nulls=True,
    )
    more_lines = quotes.list.join("\n")
    text = pl.concat_str(
        pl.when(first_line.str.len_chars() > 0).then(first_line),
        pl.when(more_lines.str.len_chars() > 0).then(pl.format("[Reviews] {}", more_lines)),
        separator="\n",
        ignore_nulls=True,
    )
    return pl.when(text.str.len_chars() > 0).then(text)
