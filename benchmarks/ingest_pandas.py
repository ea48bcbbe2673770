"""The peer of `benchmarks/ingest.py`: ingest and split of a 2023 file in plain pandas.

It makes the same tables, and refuses the same rows, by the methods that one reaches for first. It
does not stream, and does not say in which line a bad row stands.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

SAME = ["user_id", "asin", "parent_asin", "timestamp", "rating", "text"]


def ingest(raw: Path, folder: Path) -> None:
    """Read, check, drop duplicates, fold variants, name events, write events, items and users."""
    reviews = pd.read_json(raw, lines=True)
    check_reviews(reviews)
    reviews = reviews.sort_values(["text", "title"]).drop_duplicates(SAME)
    reviews["user_id"] = "am_" + reviews["user_id"]
    reviews["item_id"] = "am_" + reviews["parent_asin"]
    reviews["timestamp"] = reviews["timestamp"].astype("datetime64[ms]").dt.tz_localize("UTC")
    ms = reviews["timestamp"].astype("int64").astype(str)
    key = reviews["user_id"] + ":" + reviews["item_id"] + ":" + ms
    further = reviews.assign(key=key).groupby("key").cumcount()
    reviews["event_id"] = key.where(further == 0, key + ":" + further.astype(str))
    reviews["event"] = "rate"
    events = reviews.drop(columns=["images", "asin", "parent_asin"])
    events = events.rename(columns={"rating": "value"}).sort_values("event_id")
    check_table(events, "event_id", list(events.columns))
    events.to_parquet(folder / "events.parquet", index=False)
    for name in ("item_id", "user_id"):
        ids = events[[name]].drop_duplicates().sort_values(name)
        ids.to_parquet(folder / f"{name}.parquet", index=False)


def check_reviews(reviews: pd.DataFrame) -> None:
    """Refuse rows without a value, a time or a rating in range, or ids of text."""
    assert not reviews[[*SAME, "title"]].isna().any().any()
    assert reviews["timestamp"].between("1995-01-01", "2100-01-01").all()
    assert reviews["rating"].between(0, 5).all()
    for name in ("user_id", "asin", "parent_asin"):
        assert not reviews[name].str.match(r"[\[{]|$").any()


def check_table(table: pd.DataFrame, key: str, required: list[str]) -> None:
    """Refuse nulls, and rows that share a key."""
    assert table[key].is_unique
    assert not table[required].isna().any().any()


def split(folder: Path) -> None:
    """Cut in time by 80/10/10 and an eighth of train, write events and held-out queries."""
    events = pd.read_parquet(folder / "events.parquet")
    check_table(events, "event_id", list(events.columns))
    times = events["timestamp"].sort_values()
    train_end = times.iloc[round(len(times) * 0.8) - 1]
    valid_end = times.iloc[round(len(times) * 0.9) - 1]
    train = times[times <= train_end]
    fit_end = train.iloc[round(len(train) * 0.875) - 1]
    time = events["timestamp"]
    events["split"] = np.select(
        [time <= fit_end, time <= train_end, time <= valid_end],
        ["fit", "rank", "valid"],
        "test",
    )
    spans = events.groupby("split")["timestamp"].agg(["min", "max"])
    spans = spans.loc[["fit", "rank", "valid", "test"]]
    assert (spans["max"].iloc[:-1].to_numpy() < spans["min"].iloc[1:].to_numpy()).all()
    queries = review_queries(events)
    check_table(events, "event_id", list(events.columns))
    events.to_parquet(folder / "split.parquet", index=False)
    check_table(queries, "query_id", ["query_id", "timestamp", "history", "targets", "split"])
    queries.to_parquet(folder / "queries.parquet", index=False)


def review_queries(events: pd.DataFrame) -> pd.DataFrame:
    """One query for each held-out review with text, with what its user did before."""
    asked = events[(events["split"] != "fit") & (events["text"].str.strip() != "")]
    past = events[["user_id", "item_id", "timestamp"]]
    pairs = asked[["event_id", "user_id", "timestamp"]].merge(
        past, on="user_id", suffixes=("", "_past")
    )
    pairs = pairs[pairs["timestamp_past"] < pairs["timestamp"]]
    pairs = pairs.sort_values(["event_id", "timestamp_past", "item_id"])
    past = pairs[["item_id", "timestamp_past"]]
    past = past.rename(columns={"timestamp_past": "timestamp"})
    pairs["past"] = pd.Series(past.to_dict("records"), index=pairs.index)
    histories = pairs.groupby("event_id")["past"].agg(list)
    queries = asked.set_index("event_id")
    history = histories.reindex(queries.index)
    queries["history"] = [past if isinstance(past, list) else [] for past in history]
    queries["targets"] = [[item] for item in queries["item_id"]]
    queries = queries.reset_index(names="query_id").sort_values("query_id")
    return queries[["query_id", "user_id", "timestamp", "text", "history", "targets", "split"]]


if __name__ == "__main__":
    ingest(Path(sys.argv[1]), Path(sys.argv[2]))
    split(Path(sys.argv[2]))
