"""Texts: documents and training pairs hold what their window knew, and no copy of their query."""

import polars as pl

from stages.core import catalogue
from stages.core.params import Documents
from stages.core.tables import PARTS_OF_WINDOW, WINDOW_OF_SPLIT, WINDOWS
from stages.enrich.documents import compose, keywords_of_window
from stages.evaluate.checks.verdict import Check, verdict

_SAMPLE = 20_000
"""Pairs whose positive is read; the cheaper rules are checked on all."""

_MIN_COPY = 20
"""Characters from which on the same text in two reviews is a copy, not a common phrase."""


def check_documents(
    documents: pl.DataFrame,
    items: pl.DataFrame,
    events: pl.DataFrame,
    keywords: pl.DataFrame,
    summaries: pl.DataFrame,
    settings: Documents,
    properties: pl.DataFrame,
) -> Check:
    """Documents hold no word of a review that is later than their window.

    By sight: no document names a keyword, or quotes a text, that only later reviews of its item
    have. By composition: each is what the window's own reviews give, to the letter.

    Args:
        documents: window, item_id, text.
        items: item_id, title, features.
        events: event_id, item_id, timestamp, title, text, split.
        keywords: event_id, item_id, keywords.
        summaries: item_id, summary.
        settings: how documents are composed.
        properties: of items, as the windows knew them.
    """
    faults = {}
    for window in WINDOWS:
        mine = documents.filter(window=window).select("item_id", "text")
        inside = pl.col("split").is_in(PARTS_OF_WINDOW[window])
        reviews, later = events.filter(inside), events.filter(~inside)
        read = keywords.join(reviews, on="event_id", how="semi")
        unread = keywords.join(later, on="event_id", how="semi")
        faults[f"keywords in {window} documents that only later reviews name"] = _named(
            mine, _only(unread, read), "item_id"
        )
        faults[f"later reviews quoted in {window} documents"] = _quoted(mine, later, reviews)
        known = catalogue.of_window(items, properties, window)
        named = keywords_of_window(keywords, events, window, settings)
        due = compose(known, named, summaries, reviews, settings)
        both = mine.join(due, on="item_id", how="full", coalesce=True, suffix="_due")
        wrong = both.filter(~pl.col("text").eq_missing(pl.col("text_due")))
        faults[f"{window} documents that are not what their window gives"] = wrong["item_id"]
    return verdict(
        "documents",
        faults,
        f"All {documents.height:,} documents are what their window's reviews give.",
        {window: documents.filter(window=window).height for window in WINDOWS},
    )


def check_pairs(
    pairs: pl.DataFrame,
    items: pl.DataFrame,
    events: pl.DataFrame,
    keywords: pl.DataFrame,
    documents: pl.DataFrame,
) -> Check:
    """Training pairs come from window `fit`, and none gives its answer away.

    * Its review lies in `fit`, and is that user's, of that item.
    * The positive does not quote the pair's own review, unless another review says the same, and
      names no keyword that only that review, or only a later one, has.
    * The query does not hold the item's title.
    * A negative is no item that the user chose in `fit`, and its text is of its `fit` document.

    Args:
        pairs: the pairs table.
        items: item_id, title.
        events: event_id, user_id, item_id, title, text, split.
        keywords: event_id, item_id, keywords.
        documents: window, item_id, text.
    """
    fit = events.filter(split="fit")
    key = ["event_id", "user_id", "item_id"]
    foreign = pairs.join(fit, on=key, how="anti")
    titled = pairs.join(items.select("item_id", "title"), on="item_id", maintain_order="left")
    title = _words(pl.col("title").fill_null(""))
    given = titled.filter(
        title.str.len_chars() > 2, _words(pl.col("query")).str.contains(title, literal=True)
    )
    negatives = pairs.select("pair_id", "user_id", "negative_ids", "negatives").explode(
        "negative_ids", "negatives", empty_as_null=False
    )
    chosen = negatives.join(
        fit.select("user_id", negative_ids="item_id"), on=["user_id", "negative_ids"], how="semi"
    )
    texts = documents.filter(window="fit").select(negative_ids="item_id", document="text")
    strange = negatives.join(texts, on="negative_ids", how="left").filter(
        ~pl.col("document").str.contains(pl.col("negatives"), literal=True).fill_null(False)
    )
    read = pairs.sort("pair_id").gather_every(max(-(-pairs.height // _SAMPLE), 1))
    return verdict(
        "pairs",
        {
            "pairs whose review is not in fit": foreign["pair_id"],
            "positives that quote their own review": _own_words(read, fit),
            "positives with a keyword of no other review of fit": _own_keywords(
                read, keywords, fit
            ),
            "queries that hold the title": given["pair_id"],
            "negatives that the user chose": chosen["pair_id"],
            "negatives that are not of a fit document": strange["pair_id"],
        },
        f"All {pairs.height:,} pairs come from window fit and none gives its answer away.",
        {"pairs": pairs.height, "positives_read": read.height, "negatives": negatives.height},
    )


def check_copies(queries: pl.DataFrame, events: pl.DataFrame) -> Check:
    """Count queries that repeat, word for word, a review of their target in the window behind them.

    Copied reviews are in the data, not made by the pipeline; they are answered by memory. So this
    warns and does not fail.

    Args:
        queries: query_id, text, targets, split.
        events: item_id, text, split.
    """
    counts, total = {}, 0
    for split, window in WINDOW_OF_SPLIT.items():
        behind = events.filter(pl.col("split").is_in(PARTS_OF_WINDOW[window]))
        asked = queries.filter(split=split).select("query_id", "text", item_id="targets")
        asked = asked.explode("item_id", empty_as_null=False).drop_nulls()
        copies = asked.with_columns(_line("text")).join(
            behind.select("item_id", _line("text")).drop_nulls().unique(),
            on=["item_id", "text"],
            how="semi",
        )
        counts[split] = copies["query_id"].n_unique()
        total += counts[split]
    share = total / max(queries.height, 1)
    words = f"{total:,} of {queries.height:,} queries ({share:.1%}) repeat an earlier review"
    return Check("copies", True, f"{words} of their target word for word.", counts, total > 0)


def _only(these: pl.DataFrame, not_those: pl.DataFrame) -> pl.DataFrame:
    """Return (item_id, keyword) that the first keywords have and the second have not."""
    sides = [
        frame.select("item_id", keyword="keywords")
        .explode("keyword", empty_as_null=False)
        .drop_nulls()
        .unique()
        for frame in (these, not_those)
    ]
    return sides[0].join(sides[1], on=["item_id", "keyword"], how="anti")


def _named(texts: pl.DataFrame, keywords: pl.DataFrame, key: str) -> pl.Series:
    """Return the keys of texts whose keyword part names one of their keywords.

    Args:
        texts: the key and text.
        keywords: the key and keyword.
        key: by which a keyword belongs to a text.
    """
    part = pl.col("text").str.extract(
        r"\[Review Keywords\] (.*?)(?: \[Description Summary\] | \[Features\] |\n|$)"
    )
    listed = texts.select(key, part=pl.format(", {}, ", part)).drop_nulls()
    pairs = listed.join(keywords, on=key)
    held = pl.col("part").str.contains(pl.format(", {}, ", pl.col("keyword")), literal=True)
    return pairs.filter(held)[key]


def _quoted(documents: pl.DataFrame, later: pl.DataFrame, reviews: pl.DataFrame) -> pl.Series:
    """Return the items whose document quotes a later review that no review of the window equals."""
    texts = [
        frame.select("item_id", review=_line("text")).drop_nulls().unique()
        for frame in (later, reviews)
    ]
    new = texts[0].join(texts[1], on=["item_id", "review"], how="anti")
    new = new.filter(pl.col("review").str.len_chars() >= _MIN_COPY)
    quotes = documents.select("item_id", quotes=pl.col("text").str.extract(r"(?s)\[Reviews\] (.*)"))
    pairs = quotes.drop_nulls().join(new, on="item_id")
    held = pl.col("quotes").str.contains(pl.col("review"), literal=True)
    return pairs.filter(held)["item_id"]


def _own_words(pairs: pl.DataFrame, fit: pl.DataFrame) -> pl.Series:
    """Return the pairs whose positive holds the text of their review and of no other."""
    reviews = fit.select("event_id", "item_id", review=_line("text")).drop_nulls()
    own = reviews.filter(pl.col("review").str.len_chars() >= _MIN_COPY)
    quoting = pairs.join(own.select("event_id", "review"), on="event_id").filter(
        pl.col("positive").str.contains(pl.col("review"), literal=True)
    )
    others = (
        quoting.select("pair_id", "item_id", "review", own="event_id")
        .join(reviews.rename({"review": "other"}), on="item_id")
        .filter(
            pl.col("event_id") != pl.col("own"),
            pl.col("other").str.contains(pl.col("review"), literal=True),
        )
    )
    return quoting.join(others, on="pair_id", how="anti")["pair_id"]


def _own_keywords(pairs: pl.DataFrame, keywords: pl.DataFrame, fit: pl.DataFrame) -> pl.Series:
    """Return the pairs whose positive names a keyword that no other review of fit names."""
    rows = keywords.select("event_id", "item_id", keyword="keywords")
    rows = rows.explode("keyword", empty_as_null=False).drop_nulls().unique()
    read = rows.join(fit, on="event_id", how="semi")
    once = read.group_by("item_id", "keyword").agg(
        pl.len().alias("reviews"), pl.col("event_id").first()
    )
    texts = pairs.select("pair_id", "event_id", "item_id", text="positive")
    own = once.filter(pl.col("reviews") == 1).join(
        texts.select("pair_id", "event_id"), on="event_id"
    )
    late = (
        rows.select("item_id", "keyword").unique().join(read, on=["item_id", "keyword"], how="anti")
    )
    return pl.concat(
        [
            _named(texts.select("pair_id", "text"), own.select("pair_id", "keyword"), "pair_id"),
            _named(
                texts.select("pair_id", "text"),
                late.join(texts.select("pair_id", "item_id"), on="item_id").select(
                    "pair_id", "keyword"
                ),
                "pair_id",
            ),
        ]
    )


def _line(name: str) -> pl.Expr:
    line = pl.col(name).str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(line.str.len_chars() > 0).then(line).alias(name)


def _words(text: pl.Expr) -> pl.Expr:
    spaced = text.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()
    return pl.format(" {} ", spaced)
