"""The peer of `benchmarks/ingest.py`: ingest and split of a 2023 file in plain pandas.

It makes the same tables by the methods that one reaches for first: no checks, no streaming.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

SAME = ["user_id", "asin", "parent_asin", "timestamp", "rating", "text"]


def ingest(raw: Path, folder: Path) -> None:
    """Read, drop duplicates, fold variants, name events, write events, items and users."""
    reviews = pd.read_json(raw, lines=True)
    reviews = reviews.drop_duplicates(SAME)
    reviews["user_id"] = "am_" + reviews["user_id"]
    reviews["item_id"] = "am_" + reviews["parent_asin"]
    ms = reviews["timestamp"].astype("datetime64[ms]").astype("int64").astype(str)
    key = reviews["user_id"] + ":" + reviews["item_id"] + ":" + ms
    further = reviews.assign(key=key).sort_values("text").groupby("key").cumcount()
    reviews["event_id"] = key.where(further == 0, key + ":" + further.astype(str))
    reviews = reviews.drop(columns=["images", "asin", "parent_asin"])
    reviews = reviews.rename(columns={"rating": "value"}).sort_values("event_id")
    reviews.to_parquet(folder / "events.parquet", index=False)
    for name in ("item_id", "user_id"):
        ids = reviews[[name]].drop_duplicates().sort_values(name)
        ids.to_parquet(folder / f"{name}.parquet", index=False)


def split(folder: Path) -> None:
    """Cut in time by 80/10/10 and an eighth of train, write events and held-out queries."""
    events = pd.read_parquet(folder / "events.parquet")
    times = events["timestamp"].sort_values().to_numpy()
    train_end = times[round(len(times) * 0.8) - 1]
    valid_end = times[round(len(times) * 0.9) - 1]
    train = times[times <= train_end]
    fit_end = train[round(len(train) * 0.875) - 1]
    time = events["timestamp"]
    events["split"] = np.select(
        [time <= fit_end, time <= train_end, time <= valid_end],
        ["fit", "rank", "valid"],
        "test",
    )
    asked = events[(events["split"] != "fit") & (events["text"].str.strip() != "")]
    past = events[["user_id", "item_id", "timestamp"]]
    pairs = asked[["event_id", "user_id", "timestamp"]].merge(
        past, on="user_id", suffixes=("", "_past")
    )
    pairs = pairs[pairs["timestamp_past"] < pairs["timestamp"]]
    pairs = pairs.sort_values(["event_id", "timestamp_past", "item_id"])
    history = pairs.groupby("event_id").agg({"item_id": list, "timestamp_past": list})
    queries = asked[["event_id", "user_id", "timestamp", "text", "item_id", "split"]]
    queries = queries.merge(
        history.reset_index(), on="event_id", how="left", suffixes=("", "_past")
    ).sort_values("event_id")
    events.to_parquet(folder / "split.parquet", index=False)
    queries.to_parquet(folder / "queries.parquet", index=False)


if __name__ == "__main__":
    if sys.argv[1] == "ingest":
        ingest(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        split(Path(sys.argv[3]))
