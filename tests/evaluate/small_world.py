"""A small shop whose tables obey every rule: what the pipeline would have written, made by hand."""

import dataclasses
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from stages.core import catalogue, files, metrics, storage, tables
from stages.core.params import Params
from stages.enrich.documents import compose_windows
from stages.prepare.split import leave_last_out
from stages.prepare.splitting.properties import as_of_windows
from stages.rank.features import FeatureProgram
from stages.retrieve.blending.fusion import Fusion

ITEMS, USERS, EVENTS, LISTED = 40, 30, 800, 16
START = datetime(2023, 1, 1, tzinfo=UTC)
RETRIEVERS = {"bm25": 1.2, "dense_base": 1.0, "dense": 1.9}
RANKERS = {"lightgbm": 1.6, "xgboost": 1.4}


@dataclass(frozen=True)
class World:
    """Every table that evaluation reads; `replace` plants a fault, `write` puts it on disk."""

    params: Params
    items: pl.DataFrame
    events: pl.DataFrame
    users: pl.DataFrame
    impressions: pl.DataFrame
    properties: pl.DataFrame
    known: pl.DataFrame
    cuts: dict[str, Any]
    queries: pl.DataFrame
    keywords: pl.DataFrame
    summaries: pl.DataFrame
    documents: pl.DataFrame
    pairs: pl.DataFrame
    pictures: pl.DataFrame
    candidates: pl.DataFrame
    blend: pl.DataFrame
    examples: pl.DataFrame
    scores: pl.DataFrame

    def replace(self, **changes: Any) -> "World":
        return dataclasses.replace(self, **changes)

    def remade(self) -> "World":
        """With the examples that its other tables give."""
        return self.replace(examples=described(vars(self), self.params))

    def write(self, folder: Path) -> Path:
        data = folder / "data"
        named = {
            "ingest/items": (self.items, tables.ITEMS),
            "ingest/users": (self.users, tables.USERS),
            "ingest/impressions": (self.impressions, tables.IMPRESSIONS),
            "ingest/properties": (self.properties, tables.PROPERTIES),
            "split/events": (self.events, tables.SPLIT_EVENTS),
            "split/properties": (self.known, tables.SPLIT_PROPERTIES),
            "queries": (self.queries, tables.QUERIES),
            "keywords": (self.keywords, tables.KEYWORDS),
            "summaries": (self.summaries, tables.SUMMARIES),
            "documents": (self.documents, tables.DOCUMENTS),
            "pairs": (self.pairs, tables.PAIRS),
            "pictures": (self.pictures, tables.PICTURE_VECTORS),
            "blend": (self.blend, tables.CANDIDATES),
            "examples": (self.examples, tables.EXAMPLES),
        }
        for name in RETRIEVERS:
            own = self.candidates.filter(retriever=name)
            named[f"candidates/{name}"] = (own, tables.CANDIDATES)
        for name in RANKERS:
            named[f"scores/{name}"] = (self.scores.filter(ranker=name), tables.SCORES)
        for name, (frame, table) in named.items():
            tables.write(frame, data / f"{name}.parquet", table)
        storage.write_json(data / "split" / "cuts.json", self.cuts)
        even = dict.fromkeys(RETRIEVERS, round(1 / len(RETRIEVERS), 6))
        Fusion(self.params.blend.method, even).save(folder / files.BLEND_MODEL)
        text = yaml.safe_dump(self.params.model_dump(mode="json"))
        storage.write_text(folder / "params.yaml", text)
        return folder


def typed(rows: list[dict[str, Any]], table: tables.Table) -> pl.DataFrame:
    return pl.DataFrame(rows, table.columns)


def ordered(lists: pl.DataFrame, name: str, label: str) -> pl.DataFrame:
    """Rank (query_id, item_id, score) and name it, as candidates and scores tables do."""
    return (
        metrics.order(lists.with_columns(pl.col("score").cast(pl.Float32)))
        .rename({"position": "rank"})
        .with_columns(pl.lit(name).alias(label))
    )


def shop(
    rng: np.random.Generator, tie: bool = False, copied: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Items, events with their split, keywords; times are distinct but for one tie inside fit.

    With `tie`, the last event of valid and the first of test happen at once. With `copied`, the
    reviews of valid are those of rank once more.
    """
    ids = [f"am:i{n:02d}" for n in range(ITEMS)]
    items = [
        {
            "item_id": item,
            "title": f"Widget {item[-2:]} deluxe" if n % 5 else None,
            "description": f"A thing called {n}.",
            "features": [f"feature {n}", "sturdy"],
            "categories": ["Things", f"Kind {n % 4}"],
            "brand": f"Brand {n % 3}",
            "price": 5.0 + n,
            "image": None,
        }
        for n, item in enumerate(ids)
    ]
    first = {"fit": 0, "rank": 560, "valid": 640, "test": 720}
    popular = rng.dirichlet(np.full(ITEMS, 0.8))
    events, keywords = [], []
    for n in range(EVENTS):
        split = next(part for part in reversed(first) if n >= first[part])
        number, who = int(rng.choice(ITEMS, p=popular)), int(rng.integers(USERS))
        # Half of the stories name their item's quality, the others any.
        quality = number if rng.random() < 0.5 else int(rng.integers(ITEMS))
        told = n
        if copied and split == "valid":
            old = events[n - 80]
            number, who = ids.index(old["item_id"]), int(old["user_id"][-2:])
            told = n - 80
        slot = {3: 2, first["test"]: first["test"] - tie}.get(n, n)
        event = f"am:e{n:04d}"
        story = f"Story s{n:04d} about quality{quality} and word{rng.integers(60)} here"
        events.append(
            {
                "event_id": event,
                "user_id": f"am:u{who:02d}",
                "item_id": ids[number],
                "timestamp": START + timedelta(hours=18 * slot),
                "event": "rate",
                "value": float(rng.integers(1, 6)),
                "title": f"Title t{n:04d}",
                "text": story if told == n else events[told]["text"],
                "split": split,
            }
        )
        keywords.append(
            {
                "event_id": event,
                "item_id": ids[number],
                "keywords": [f"quality{quality}", f"only s{n:04d}"],
                "backend": "yake",
                "prompt_hash": "h",
                "status": "ok",
                "reason": None,
            }
        )
    return (
        typed(items, tables.ITEMS),
        typed(events, tables.SPLIT_EVENTS),
        typed(keywords, tables.KEYWORDS),
    )


def shown_of(rng: np.random.Generator, events: pl.DataFrame) -> pl.DataFrame:
    """Three impressions an event, half a day before it, a few clicked."""
    rows = [
        {
            "impression_id": f"am:s{n:04d}-{place}",
            "user_id": event["user_id"],
            "item_id": f"am:i{rng.integers(ITEMS):02d}",
            "timestamp": event["timestamp"] - timedelta(hours=12),
            "click": int(rng.random() < 0.2),
            "conversion": 0,
            "position": place,
        }
        for n, event in enumerate(events.iter_rows(named=True))
        for place in range(3)
    ]
    return typed(rows, tables.IMPRESSIONS)


def said_of(items: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Brands that change: every third item's in the middle of fit, of rank and of test."""
    moments = [events.filter(split=part)["timestamp"].median() for part in ("fit", "rank", "test")]
    rows = [
        {"item_id": item, "timestamp": at, "name": "brand", "value": f"Brand {n % 3}{owner}"}
        for n, item in enumerate(items["item_id"])
        if n % 3 == 0
        for at, owner in zip(moments, "abc", strict=True)
    ]
    return typed(rows, tables.PROPERTIES)


def asked(events: pl.DataFrame) -> pl.DataFrame:
    """One query a held-out review, with all that its user did before."""
    rows = []
    for event in events.filter(pl.col("split") != "fit").iter_rows(named=True):
        past = events.filter(
            pl.col("user_id") == event["user_id"], pl.col("timestamp") < event["timestamp"]
        ).sort("timestamp", "event_id")
        rows.append(
            {
                "query_id": event["event_id"],
                "user_id": event["user_id"],
                "timestamp": event["timestamp"],
                "text": event["text"],
                "history": past.select("item_id", "timestamp").to_dicts(),
                "targets": [event["item_id"]],
                "split": event["split"],
            }
        )
    return typed(rows, tables.QUERIES)


def listed(queries: pl.DataFrame, known: set[str], name: str, skill: float) -> pl.DataFrame:
    """The best of noisy scores over the known items, in which targets stand out by `skill`.

    The noise is drawn from the query's words: the same question gets the same answer.
    """
    rows: list[tuple[str, str, float]] = []
    items = np.array(sorted(known))
    for query, text, targets in queries.select("query_id", "text", "targets").rows():
        rng = np.random.default_rng(zlib.crc32(f"{name} {text}".encode()))
        scores = rng.normal(size=len(items)) + skill * np.isin(items, targets)
        best = np.argsort(-scores)[:LISTED]
        rows += [(query, items[place], float(scores[place])) for place in best]
    schema = {"query_id": pl.String, "item_id": pl.String, "score": pl.Float32}
    return pl.DataFrame(rows, schema, orient="row")


def training_pairs(world: dict[str, Any]) -> pl.DataFrame:
    """A pair for each review of `fit` whose item has another: by turns its keywords, its story."""
    events = world["events"].filter(split="fit")
    texts = dict(world["documents"].filter(window="fit").select("item_id", "text").rows())
    chosen = dict(events.group_by("user_id").agg("item_id").rows())
    reviews = {item: part.to_dicts() for (item,), part in events.group_by("item_id")}
    rows = []
    for number, event in enumerate(events.iter_rows(named=True)):
        item, user = event["item_id"], event["user_id"]
        others = [e for e in reviews[item] if e["event_id"] != event["event_id"]]
        if not others:
            continue
        other = others[number % len(others)]
        passages = [
            f"[Title] Widget [Review Keywords] only s{other['event_id'][-4:]} [Features] f",
            f"{other['title']}. {other['text']}",
        ]
        negative = next(i for i in sorted(texts) if i not in chosen[user])
        rows.append(
            {
                "pair_id": f"{event['event_id']}#review_text",
                "event_id": event["event_id"],
                "user_id": user,
                "item_id": item,
                "query": event["text"],
                "positive": passages[number % 2],
                "negatives": [texts[negative].split("\n")[0]],
                "negative_ids": [negative],
            }
        )
    return typed(rows, tables.PAIRS)


def described(world: dict[str, Any], params: Params) -> pl.DataFrame:
    """Examples as the stage `examples` makes them, with the real feature program."""
    made = []
    for window in tables.WINDOWS:
        program = FeatureProgram(params.examples).fit(
            catalogue.of_window(world["items"], world["known"], window),
            world["documents"].filter(window=window),
            world["events"].filter(pl.col("split").is_in(tables.PARTS_OF_WINDOW[window])),
        )
        splits = [s for s, behind in tables.WINDOW_OF_SPLIT.items() if behind == window]
        queries = world["queries"].filter(pl.col("split").is_in(splits))
        mine = world["candidates"].join(queries, on="query_id", how="semi")
        theirs = world["blend"].join(queries, on="query_id", how="semi")
        features = program.transform(queries, mine, theirs)
        truth = queries.select("query_id", "split", "targets")
        made.append(
            features.join(truth, on="query_id", maintain_order="left")
            .with_columns(
                relevance=pl.col("targets").list.contains(pl.col("item_id")).cast(pl.Int8)
            )
            .drop("targets")
        )
    return tables.check(pl.concat(made), tables.EXAMPLES)


def build(
    tie: bool = False,
    copied: bool = False,
    rank_lift: float = 0.0,
    ranker_lift: float = 0.0,
    last_out: bool = False,
) -> World:
    """Make the tables, clean unless asked otherwise.

    Args:
        tie: events on both sides of a cut happen at once.
        copied: valid asks what rank has asked.
        rank_lift: how much better BM25 is on rank than elsewhere.
        ranker_lift: how much better rankers are than can be believed.
        last_out: each user's last events are held out, and there are no cuts in time.
    """
    rng = np.random.default_rng(0)
    params = Params.model_validate(
        {
            "retrievers": list(RETRIEVERS),
            "rankers": list(RANKERS),
            "documents": {"reviews": 2},
            "evaluate": {"bootstrap": 200},
            "pairs": {"format": "triplet"},
        }
    )
    items, events, keywords = shop(rng, tie, copied)
    if last_out:
        events = leave_last_out(events.drop("split"), seed=0)
    summaries = [
        {"item_id": item, "summary": text, "backend": "none", "prompt_hash": "", "status": "ok"}
        for item, text in items.select("item_id", "description").iter_rows()
    ]
    world: dict[str, Any] = {"items": items, "events": events, "keywords": keywords}
    world["users"] = events.select(pl.col("user_id").unique().sort())
    world["impressions"] = shown_of(rng, events)
    world["properties"] = properties = said_of(items, events)
    world["known"] = as_of_windows(properties, events)
    world["summaries"] = typed([{**row, "reason": None} for row in summaries], tables.SUMMARIES)
    seen = items["item_id"].head(3).to_list()
    vectors = {"vector": [[1.0, 0.0]] * len(seen), "model_hash": ["h"] * len(seen)}
    kinds = tables.PICTURE_VECTORS.columns | {"vector": pl.Array(pl.Float32, 2)}
    world["pictures"] = pl.DataFrame({"item_id": seen, **vectors}, kinds)
    world["documents"] = compose_windows(
        items, events, keywords, world["summaries"], params.documents
    )
    world["queries"] = queries = asked(events)
    found: list[pl.DataFrame] = []
    for name, skill in RETRIEVERS.items():
        parts = []
        for split, window in tables.WINDOW_OF_SPLIT.items():
            known = set(world["documents"].filter(window=window)["item_id"])
            lift = rank_lift * (name == "bm25" and split == "rank")
            parts.append(listed(queries.filter(split=split), known, name, skill + lift))
        found.append(ordered(pl.concat(parts), name, "retriever"))
    order = list(tables.CANDIDATES.columns)
    world["candidates"] = pl.concat(found).select(order)
    summed = world["candidates"].group_by("query_id", "item_id", maintain_order=True)
    blend = ordered(summed.agg(pl.col("score").sum()), "blend", "retriever")
    world["blend"] = blend.filter(pl.col("rank") <= LISTED).select(order)
    world["pairs"] = training_pairs(world)
    world["examples"] = described(world, params)
    held = world["blend"].join(
        queries.filter(pl.col("split").is_in(["valid", "test"])).select("query_id", "targets"),
        on="query_id",
        maintain_order="left",
    )
    scores = []
    for name, skill in RANKERS.items():
        noise = pl.Series(rng.normal(size=held.height))
        lift = pl.col("targets").list.contains(pl.col("item_id")) * (skill + ranker_lift)
        ranked = held.select("query_id", "item_id", score=pl.col("score") * 0.6 + noise + lift)
        scores.append(ordered(ranked, name, "ranker"))
    world["scores"] = pl.concat(scores).select(*tables.SCORES.columns)
    ends = dict(events.group_by("split").agg(pl.col("timestamp").max().dt.epoch("ms")).rows())
    method = "leave_last_out" if last_out else "fractions"
    cuts = {"method": method, "fit_end_ms": ends["fit"], "train_end_ms": ends["rank"]}
    cuts["valid_end_ms"] = ends["valid"]
    return World(params=params, cuts=cuts, **world)
