"""The audit: silent on clean tables, and each planted leak is found by the check made for it."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from small_world import World, build
from typer.testing import CliRunner

from stages.core import storage, tables
from stages.enrich.documents import compose_windows
from stages.evaluate.checks import behaviour, learning, lists, texts, time
from stages.evaluate.checks.verdict import Check, verdict
from stages.evaluate.figures.intervals import Bootstrap
from stages.evaluate.figures.slices import warm_queries

PINNED = ["am:i28", "am:i02", "am:i13"]

ALL = [
    "candidates",
    "copies",
    "cuts",
    "documents",
    "encoder",
    "features",
    "history",
    "hotness",
    "label_features",
    "labels",
    "negatives",
    "pairs",
    "parts",
    "passed_over",
    "properties",
    "queries",
    "rank_slice",
    "scores",
    "shuffled",
    "too_good",
    "vocabularies",
]


def audited(world: World, finetune: dict[str, object] | None = None) -> dict[str, Check]:
    params, limits = world.params, world.params.audit
    bootstrap = Bootstrap(params.evaluate, params.seed)
    names = world.candidates["retriever"].unique().sort()
    retrieved = {name: world.candidates.filter(retriever=name) for name in names}
    retrieved["blend"] = world.blend
    ranked = {name: world.scores.filter(ranker=name) for name in params.rankers}
    w = world
    warm = warm_queries(w.queries, w.events, w.items)
    checks = [
        time.check_cuts(w.events, w.cuts),
        time.check_queries(w.queries, w.events, w.cuts),
        time.check_history(w.queries, w.events),
        time.check_properties(w.known, w.properties, w.events),
        texts.check_documents(
            w.documents, w.items, w.events, w.keywords, w.summaries, params.documents, w.known
        ),
        texts.check_pairs(w.pairs, w.items, w.events, w.keywords, w.documents),
        texts.check_copies(w.queries, w.events),
        learning.check_encoder(finetune or {}, w.pairs),
        lists.check_candidates(
            *(retrieved, w.queries, w.documents, w.events, w.pictures, w.items, w.known)
        ),
        lists.check_parts(retrieved, w.queries, w.items, w.users),
        behaviour.check_hotness(
            *(None, w.queries, w.events, w.impressions, params.fit.popular),
            *(w.items, w.known, w.users, True),
        ),
        behaviour.check_vocabularies({}, w.events),
        behaviour.check_negatives({}, w.events),
        behaviour.check_passed_over({}, w.impressions, w.events, w.items, w.users, False),
        lists.check_rank_slice(retrieved, warm, bootstrap, limits.max_rank_excess),
        learning.check_labels(w.examples, w.queries, w.blend),
        learning.check_label_features(w.examples, limits.max_feature_auc),
        learning.check_features(
            *(w.examples, w.items, w.events, w.documents, w.queries, w.candidates, w.blend),
            params.examples,
            w.known,
            params.retrievers,
        ),
        learning.check_shuffled(w.examples, w.queries, bootstrap, limits.max_shuffled_auc),
        lists.check_scores(ranked, w.queries, w.blend),
        lists.check_too_good(retrieved, ranked, w.queries, limits.max_recall_at_1),
    ]
    return {check.name: check for check in checks}


def failing(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if not check.passed}


def change(frame: pl.DataFrame, where: pl.Expr, **columns: pl.Expr) -> pl.DataFrame:
    """Change the columns of the first row that fits."""
    row = frame.with_row_index("row").filter(where)["row"][0]
    here = pl.int_range(pl.len()) == row
    kinds = frame.schema
    return frame.with_columns(
        pl.when(here).then(value.cast(kinds[name])).otherwise(name).alias(name)
        for name, value in columns.items()
    )


# Clean -------------------------------------------------------------------------------------------


def test_clean_tables_pass_every_check(world: World) -> None:
    checks = audited(world)
    assert sorted(checks) == ALL
    assert failing(checks) == set()
    assert not any(check.warning for check in checks.values())
    assert all(check.message.endswith(".") for check in checks.values())


# Planted leaks -----------------------------------------------------------------------------------


def keyword_of_the_future(w: World) -> World:
    late = w.events.filter(split="test")["event_id"][0]
    keyword = w.keywords.filter(event_id=late)["keywords"][0][1]
    item = w.events.filter(event_id=late)["item_id"][0]
    more = pl.col("text").str.replace(
        "[Description Summary]", f"[Review Keywords] {keyword} [Description Summary]", literal=True
    )
    plain = pl.col("text").str.replace(r"\[Review Keywords\] .*? \[Desc", "[Desc")
    documents = change(w.documents, pl.col("item_id") == item, text=plain)
    return w.replace(documents=change(documents, pl.col("item_id") == item, text=more)).remade()


def review_of_the_future(w: World) -> World:
    late = w.events.filter(split="valid").row(0, named=True)
    where = (pl.col("item_id") == late["item_id"]) & (pl.col("window") == "train")
    text = pl.concat_str(pl.col("text"), pl.lit("\n" + late["text"]))
    return w.replace(documents=change(w.documents, where, text=text)).remade()


def document_of_the_wrong_window(w: World) -> World:
    """The documents of `train`, said to be those of `fit`."""
    train = w.documents.filter(window="train")
    fit = train.with_columns(window=pl.lit("fit").cast(train.schema["window"]))
    return w.replace(documents=pl.concat([fit, train])).remade()


def target_in_its_history(w: World) -> World:
    entry = pl.struct(item_id=pl.col("targets").list.first(), timestamp=pl.col("timestamp"))
    history = pl.col("history").list.concat(entry.implode().over(pl.int_range(pl.len())))
    return w.replace(queries=change(w.queries, pl.col("split") == "valid", history=history))


def history_of_somebody_else(w: World) -> World:
    other = w.queries.filter(split="valid").row(7, named=True)["history"]
    where = (pl.col("split") == "test") & (pl.col("history").list.len() > 2)
    lit = pl.lit(pl.Series([other], dtype=tables.HISTORY))
    return w.replace(queries=change(w.queries, where, history=lit))


def forgotten_past(w: World) -> World:
    where = (pl.col("split") == "test") & (pl.col("history").list.len() > 2)
    return w.replace(queries=change(w.queries, where, history=pl.col("history").list.slice(1)))


def query_before_the_cut(w: World) -> World:
    cut = w.events.filter(split="rank")["timestamp"].max()
    assert cut is not None
    early = cut - timedelta(hours=1)
    before = pl.col("history").list.eval(
        pl.element().filter(pl.element().struct.field("timestamp") < early)
    )
    where = pl.col("split") == "valid"
    return w.replace(
        queries=change(w.queries, where, timestamp=pl.lit(early), history=before),
    )


def target_that_nobody_chose(w: World) -> World:
    where = (pl.col("split") == "test") & (pl.col("targets").list.first() != "am:i39")
    queries = change(w.queries, where, targets=pl.lit(pl.Series([["am:i39"]])))
    return w.replace(queries=queries)


def label_under_its_name(w: World) -> World:
    return w.replace(examples=w.examples.with_columns(click=pl.col("relevance").cast(pl.Float32)))


def label_under_another_name(w: World) -> World:
    noise = pl.Series(np.random.default_rng(0).normal(size=w.examples.height) / 100)
    copy = (1 - pl.col("relevance") + noise).cast(pl.Float32)
    return w.replace(examples=w.examples.with_columns(together=copy))


def counts_of_the_future(w: World) -> World:
    counts = w.events.group_by("item_id").agg(item_events=pl.len().cast(pl.Float32))
    examples = w.examples.drop("item_events").join(counts, on="item_id", how="left")
    return w.replace(examples=examples.fill_null(0))


def statistics_of_the_wrong_window(w: World) -> World:
    fit = w.events.filter(split="fit")
    known = fit.group_by("item_id").agg(
        pl.col("value").std(ddof=0).cast(pl.Float32).alias("item_rating_spread")
    )
    examples = w.examples.drop("item_rating_spread").join(
        known, on="item_id", how="left", maintain_order="left"
    )
    return w.replace(examples=examples)


def property_of_the_future(w: World) -> World:
    """Window train says whose an item is since test."""
    late = w.properties.sort("timestamp").row(-1, named=True)
    where = (pl.col("item_id") == late["item_id"]) & (pl.col("window") == "train")
    return w.replace(known=change(w.known, where, value=pl.lit(late["value"]))).remade()


def property_that_was_forgotten(w: World) -> World:
    return w.replace(known=w.known.filter(pl.col("window") == "fit")).remade()


def held_out_review_in_pairs(w: World) -> World:
    late = w.events.filter(split="valid").row(0, named=True)
    columns = {name: pl.lit(late[name]) for name in ("event_id", "user_id", "item_id")}
    return w.replace(pairs=change(w.pairs, pl.col("item_id") == late["item_id"], **columns))


def negative_that_was_chosen(w: World) -> World:
    pair = w.pairs.row(9, named=True)
    other = w.events.filter(
        pl.col("split") == "fit",
        pl.col("user_id") == pair["user_id"],
        pl.col("item_id") != pair["item_id"],
    )["item_id"][0]
    text = w.documents.filter(window="fit", item_id=other)["text"][0]
    negative = {"negative_ids": pl.lit(pl.Series([[other]]))}
    negative["negatives"] = pl.lit(pl.Series([[text]]))
    return w.replace(pairs=change(w.pairs, pl.col("pair_id") == pair["pair_id"], **negative))


def negative_of_a_later_document(w: World) -> World:
    return w.replace(
        pairs=change(
            w.pairs,
            pl.col("pair_id") == w.pairs["pair_id"][3],
            negatives=pl.lit(pl.Series([["[Title] A title of next year"]])),
        )
    )


def positive_that_is_the_query(w: World) -> World:
    return w.replace(
        pairs=change(w.pairs, pl.col("query").str.len_chars() > 0, positive=pl.col("query"))
    )


def positive_with_its_own_keyword(w: World) -> World:
    own = pl.format("[Title] W [Review Keywords] fine, only s{}", pl.col("event_id").str.tail(4))
    return w.replace(pairs=change(w.pairs, pl.col("query").str.len_chars() > 0, positive=own))


def title_in_the_query(w: World) -> World:
    titled = w.pairs.join(w.items.drop_nulls("title"), on="item_id", how="semi")["item_id"][0]
    title = w.items.filter(item_id=titled)["title"][0]
    said = pl.lit(f"I love my {title.upper()}, really!")
    return w.replace(pairs=change(w.pairs, pl.col("item_id") == titled, query=said))


def wrong_label(w: World) -> World:
    flipped = 1 - pl.col("relevance")
    return w.replace(examples=change(w.examples, pl.col("split") == "rank", relevance=flipped))


def score_of_a_rank_query(w: World) -> World:
    rank = w.queries.filter(split="rank")["query_id"][0]
    extra = w.blend.filter(query_id=rank).select(
        "query_id", "item_id", pl.lit("xgboost").alias("ranker"), "score", "rank"
    )
    scores = pl.concat([w.scores, extra.select(w.scores.columns)])
    return w.replace(scores=scores)


def candidate_left_unscored(w: World) -> World:
    last = (pl.col("ranker") == "lightgbm") & (pl.col("rank") == pl.col("rank").max())
    return w.replace(scores=w.scores.filter(~last))


def ranks_that_scores_do_not_give(w: World) -> World:
    return w.replace(scores=w.scores.with_columns(rank=17 - pl.col("rank")))


def item_that_the_window_does_not_know(w: World) -> World:
    """An item is new in `train`, and yet stands among the candidates of rank."""
    gone = w.blend.join(w.queries.filter(split="rank"), on="query_id", how="semi")["item_id"][0]
    kept = ~((pl.col("window") == "fit") & (pl.col("item_id") == gone))
    return w.replace(documents=w.documents.filter(kept))


def candidate_of_another_part(w: World) -> World:
    """All is of one part, but for an item that was found for everybody."""
    other = pl.col("item_id") == w.blend["item_id"][0]
    part = pl.when(other).then(pl.lit("b")).otherwise(pl.lit("a"))
    return w.replace(
        items=w.items.with_columns(part=part), users=w.users.with_columns(part=pl.lit("a"))
    )


LEAKS: list[tuple[Callable[[World], World], set[str], str]] = [
    (keyword_of_the_future, {"documents"}, "only later reviews name"),
    (review_of_the_future, {"documents"}, "later reviews quoted in train documents"),
    # Negatives that quote documents of fit are then quotes of nothing.
    (document_of_the_wrong_window, {"documents", "pairs"}, "fit documents"),
    (target_in_its_history, {"history", "features"}, "not before their query"),
    (history_of_somebody_else, {"history", "features"}, "no event of the user"),
    (forgotten_past, {"history", "features"}, "missing from a history"),
    (query_before_the_cut, {"queries", "features"}, "valid queries not after window train"),
    (target_that_nobody_chose, {"queries", "labels"}, "did not choose then"),
    # A label that is a feature is also a feature that the program does not make.
    (label_under_its_name, {"label_features", "features"}, "click is the name of a label"),
    (label_under_another_name, {"label_features", "features"}, "together alone has an AUC"),
    (counts_of_the_future, {"features"}, "item_events is not the count"),
    (statistics_of_the_wrong_window, {"features"}, "window train whose item_rating_spread"),
    (property_of_the_future, {"properties"}, "1 properties of window train that were said after"),
    (property_that_was_forgotten, {"properties"}, "train that are not the last before its end"),
    (held_out_review_in_pairs, {"pairs"}, "1 pairs whose review is not in fit"),
    (negative_that_was_chosen, {"pairs"}, "negatives that the user chose"),
    (negative_of_a_later_document, {"pairs"}, "negatives that are not of a fit document"),
    (positive_that_is_the_query, {"pairs"}, "quote their own review"),
    (positive_with_its_own_keyword, {"pairs"}, "keyword of no other review"),
    (title_in_the_query, {"pairs"}, "1 queries that hold the title"),
    (wrong_label, {"labels"}, "labels that are not whether"),
    (score_of_a_rank_query, {"scores"}, "not of valid or test"),
    (candidate_left_unscored, {"scores"}, "candidates that lightgbm did not score"),
    (ranks_that_scores_do_not_give, {"scores"}, "xgboost scores out of order"),
    (candidate_of_another_part, {"parts"}, "blend candidates of another part than their asker"),
]


def test_last_events_held_out_pass_without_cuts_in_time() -> None:
    world = build(last_out=True)
    checks = audited(world)
    # Thirty queries a part: what is a matter of statistics is wide.
    assert failing(checks) <= {"rank_slice", "shuffled"}
    assert "No cut in time" in checks["cuts"].message
    assert "their user did" in checks["queries"].message
    by_time = time.check_cuts(world.events, build().cuts)
    assert not by_time.passed


def moved(world: World, old: str, new: str) -> World:
    """One user's first event of a part, said to be of another."""
    event = world.events.filter(split=old).sort("user_id", "timestamp")["event_id"][0]
    part = pl.lit(new)
    return world.replace(events=change(world.events, pl.col("event_id") == event, split=part))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("fit", "valid", "events before their user's of an earlier part"),
        ("test", "fit", "users whose last event is not held out"),
        ("rank", "test", "events held out with another of their user and part"),
        ("test", "rank", "users whose last event is not held out"),
        ("valid", "fit", "users of whom other than the last three events are held out"),
    ],
)
def test_a_user_s_order_is_kept(old: str, new: str, said: str) -> None:
    world = moved(build(last_out=True), old, new)
    check = time.check_cuts(world.events, world.cuts)
    assert not check.passed
    assert said in check.message


def test_a_query_before_what_its_user_did_in_the_window() -> None:
    world = build(last_out=True)
    asked = world.queries.filter(split="test").row(0, named=True)
    first = world.events.filter(user_id=asked["user_id"])["timestamp"].min()
    where = pl.col("query_id") == asked["query_id"]
    early = change(world.queries, where, timestamp=pl.lit(first))
    check = time.check_queries(early, world.events, world.cuts)
    assert "1 test queries not after window train" in check.message


@pytest.mark.parametrize(
    ("plant", "expected", "said"), LEAKS, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_planted_leak_fails_the_check_that_is_made_for_it(
    plant: Callable[[World], World], expected: set[str], said: str, world: World
) -> None:
    checks = audited(plant(world))
    assert failing(checks) == expected
    assert any(said in checks[name].message for name in expected), checks
    assert all(checks[name].figures for name in expected)


def test_by_history_only_items_that_the_window_had_events_of_are_found(world: World) -> None:
    """The catalogue tells of items that nobody chose yet: words find them, histories cannot."""
    own = world.candidates.filter(retriever=pl.col("retriever").min()).drop("retriever")
    told = (world.queries, world.documents, world.events, world.pictures)
    told += (world.items, world.known)
    assert lists.check_candidates({"bm25": own}, *told).passed
    found = lists.check_candidates({"item_knn": own}, *told)
    assert "item_knn candidates unknown to their window" in found.message
    assert lists.check_candidates({"item_knn": own.clear(), "blend": own}, *told).passed


def test_by_content_only_items_with_a_document_or_a_picture_are_found(world: World) -> None:
    """Nobody has to have chosen them, but of something they must be known."""
    gone, shown = world.candidates["item_id"].unique().sort().to_list()[-1], world.pictures
    own = world.candidates.filter(retriever=pl.col("retriever").min()).drop("retriever")
    without = world.documents.filter(pl.col("item_id") != gone)
    unseen = world.events.filter(pl.col("item_id") != gone)
    both: dict[str, pl.DataFrame] = {"content": own, "blend": own}
    said = (world.items, world.known)
    found = lists.check_candidates(both, world.queries, world.documents, unseen, shown, *said)
    assert found.passed
    found = lists.check_candidates(both, world.queries, without, world.events, shown, *said)
    assert "content candidates unknown to their window" in found.message
    assert "blend candidates unknown to their window" in found.message
    shown = pl.DataFrame({"item_id": [gone]})
    assert lists.check_candidates(both, world.queries, without, unseen, shown, *said).passed
    # What only has a picture is found by nobody else.
    found = lists.check_candidates({"bm25": own}, world.queries, without, unseen, shown, *said)
    assert "bm25 candidates unknown to their window" in found.message


def test_by_towers_only_items_of_which_something_is_said_are_found(world: World) -> None:
    own = world.candidates.filter(retriever=pl.col("retriever").min()).drop("retriever")
    gone = own["item_id"].unique().sort()[-1]
    without = world.documents.filter(pl.col("item_id") != gone)
    unseen = world.events.filter(pl.col("item_id") != gone)
    rest = world.items.filter(pl.col("item_id") != gone)
    undated = world.known.filter(pl.col("item_id") != gone)

    def check(items: pl.DataFrame, events: pl.DataFrame, known: pl.DataFrame) -> bool:
        both: dict[str, pl.DataFrame] = {"two_tower": own, "blend": own}
        found = lists.check_candidates(
            both, world.queries, without, events, world.pictures, items, known
        )
        return found.passed

    assert check(world.items, unseen, undated)
    assert check(rest, world.events, undated)
    dated = pl.DataFrame({"window": ["fit", "train"], "item_id": [gone, gone]})
    assert check(rest, unseen, dated.cast({"window": undated.schema["window"]}))
    assert not check(rest, unseen, undated.select("window", "item_id"))


@pytest.mark.parametrize(
    ("user", "past", "item", "fine"),
    [
        ("ann", [], "a1", True),
        ("ann", ["b1"], "a1", True),
        ("ann", ["a1"], "b1", False),
        ("new", ["b1", "a2"], "a1", True),
        ("new", ["a2", "b1"], "a1", False),
        (None, ["a1", "unheard of"], "b1", False),
        (None, ["a1"], "unheard of", False),
        (None, [], "b1", True),
        ("new", ["unheard of"], "b1", True),
    ],
)
def test_candidates_are_of_the_asker_s_part(
    user: str | None, past: list[str], item: str, fine: bool, world: World
) -> None:
    """A user's part counts, else that of the newest item; of nobody known, any."""
    at = world.queries["timestamp"][0]
    asked = world.queries.head(1).with_columns(
        query_id=pl.lit("q"),
        user_id=pl.lit(user, pl.String),
        history=pl.Series(
            [[{"item_id": one, "timestamp": at} for one in past]], dtype=tables.HISTORY
        ),
    )
    items = pl.DataFrame({"item_id": ["a1", "a2", "b1"], "part": ["a", "a", "b"]})
    users = pl.DataFrame({"user_id": ["ann"], "part": ["a"]})
    found = {"als": pl.DataFrame({"query_id": ["q"], "item_id": [item]})}
    assert lists.check_parts(found, asked, items, users).passed == fine
    assert lists.check_parts(found, asked, items.drop("part"), users).passed


def test_a_retriever_that_found_nothing_has_its_columns_all_the_same(world: World) -> None:
    params = world.params.model_copy(update={"retrievers": [*world.params.retrievers, "als"]})
    w = world.replace(params=params)
    with_empty = w.examples.with_columns(
        pl.lit(None, pl.Float32).alias(f"als_{name}") for name in ("score", "rank", "gap")
    )
    assert audited(w.replace(examples=with_empty))["features"].passed


def test_an_item_unknown_to_the_window_is_no_candidate(world: World) -> None:
    checks = audited(item_that_the_window_does_not_know(world))
    assert "candidates unknown to their window" in checks["candidates"].message
    assert {"candidates", "documents"} <= failing(checks)


def test_an_encoder_tuned_on_later_reviews_or_other_pairs_fails(world: World) -> None:
    assert failing(audited(world, {"window": "train"})) == {"encoder"}
    assert failing(audited(world, {"pairs": 3, "window": "fit"})) == {"encoder"}
    known = {"pairs": world.pairs.height, "window": "fit", "kept": "tuned"}
    assert failing(audited(world, known)) == set()


def test_a_tie_across_a_cut_fails_it() -> None:
    checks = audited(build(tie=True))
    assert failing(checks) == {"cuts"}
    assert "events of valid not before all of test" in checks["cuts"].message


def test_cuts_that_are_not_where_split_says_fail(world: World) -> None:
    moved = {**world.cuts, "valid_end_ms": world.cuts["valid_end_ms"] - 1}
    check = time.check_cuts(world.events, moved)
    assert not check.passed
    assert "1 events on the wrong side of the end of valid, such as am:e0719" in check.message


def test_many_kinds_of_fault_are_not_all_told() -> None:
    faults = {f"rows of kind {kind}": pl.Series(["b", "a"]) for kind in range(7)}
    check = verdict("some", faults, "fine")
    assert check.message.startswith("2 rows of kind 0, such as a; 2 rows of kind 1, such as a; ")
    assert check.message.endswith("2 rows of kind 4, such as a; and 2 more kinds of fault")
    assert check.figures == {"faults": 14}


def test_queries_that_stand_in_two_splits_make_shuffled_labels_known() -> None:
    checks = audited(build(copied=True))
    assert failing(checks) == {"shuffled"}
    assert checks["copies"].warning
    assert checks["copies"].figures["valid"] == 80


def test_a_retriever_that_knows_the_rank_slice_fails_it() -> None:
    checks = audited(build(rank_lift=1.6))
    assert failing(checks) == {"rank_slice"}
    assert "bm25" in checks["rank_slice"].message


def test_a_ranker_that_is_too_good_to_be_true_fails() -> None:
    checks = audited(build(ranker_lift=30.0))
    assert failing(checks) == {"too_good"}
    assert "NDCG" not in checks["too_good"].message
    assert "lightgbm has a ndcg@5" in checks["too_good"].message


def test_shuffled_labels_depend_on_words_and_items_alone(world: World) -> None:
    part = world.examples.filter(split="rank")
    drawn = learning._shuffled(part, world.queries, 7)
    counts = drawn.group_by("query_id").agg(pl.col("shuffled", "relevance").sum())
    assert counts["shuffled"].equals(counts["relevance"], check_names=False)
    renamed = pl.col("query_id").str.replace("am:e", "am:x")
    again = learning._shuffled(
        part.with_columns(renamed).reverse(), world.queries.with_columns(renamed), 7
    )
    key = ["text", "item_id"]
    texts = world.queries.select("query_id", "text")
    both = drawn.join(texts, on="query_id").join(
        again.join(texts.with_columns(renamed), on="query_id"), on=key
    )
    assert both.height == drawn.height
    assert both["shuffled"].equals(both["shuffled_right"], check_names=False)
    # Written down once, so that another version of a library is seen to draw the same.
    first = drawn.filter(shuffled=1).sort("query_id")["item_id"].head(3).to_list()
    assert first == PINNED


# The stage ---------------------------------------------------------------------------------------


def run_audit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    import typer

    from stages.core.log import UserError
    from stages.evaluate.audit import main

    monkeypatch.chdir(folder)
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, [])
    assert result.exception is None or isinstance(result.exception, UserError | SystemExit)
    return result.exit_code


def test_the_stage_writes_every_verdict_and_fails_only_on_a_leak(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_audit(world.write(tmp_path / "clean"), monkeypatch) == 0
    found = storage.read_json(tmp_path / "clean" / "metrics" / "audit.json")
    assert found["failed"] == 0
    assert sorted(check["name"] for check in found["checks"]) == ALL
    assert {"passed", "message", "figures", "warning"} <= set(found["checks"][0])

    leaking = held_out_review_in_pairs(world).write(tmp_path / "leak")
    assert run_audit(leaking, monkeypatch) == 1
    found = storage.read_json(leaking / "metrics" / "audit.json")
    assert found["failed"] == 1
    assert [c["name"] for c in found["checks"] if not c["passed"]] == ["pairs"]


def test_documents_named_by_window_fit_are_what_their_window_gives(world: World) -> None:
    w = world
    settings = w.params.documents.model_copy(update={"keyword_window": "fit"})
    told = w.items, w.events, w.keywords, w.summaries
    made = compose_windows(*told, settings, w.known)
    assert not made.equals(w.documents)
    assert texts.check_documents(made, *told, settings, w.known).passed
    assert not texts.check_documents(made, *told, w.params.documents, w.known).passed
    assert not texts.check_documents(w.documents, *told, settings, w.known).passed


def test_new_items_on_valid_do_not_make_the_rank_slice_look_easy() -> None:
    """Valid asks for items that nothing before it held: hard for all, and no sign of a leak."""
    world = build()
    asked = world.queries.filter(split="valid").height
    unknown = pl.lit(["am:never-seen"])
    first = pl.int_range(pl.len()).over("split") < asked * 2 // 3
    is_valid = pl.col("split") == "valid"
    moved = world.queries.with_columns(
        targets=pl.when(is_valid & first).then(unknown).otherwise("targets")
    )
    warm = warm_queries(moved, world.events, world.items)
    assert warm.filter(split="valid").height == asked - asked * 2 // 3
    params = world.params
    bootstrap = Bootstrap(params.evaluate, params.seed)
    retrieved = {"blend": world.blend}
    limit = params.audit.max_rank_excess
    assert not lists.check_rank_slice(retrieved, moved, bootstrap, limit).passed
    assert lists.check_rank_slice(retrieved, warm, bootstrap, limit).passed


@hypothesis_settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("qrs"), st.sampled_from("abcd"), st.integers(0, 2), st.integers(0, 5)
        ),
        max_size=9,
        unique_by=lambda row: row[:2],
    ),
    st.booleans(),
)
def test_lists_out_of_order_are_found_whatever_their_fault(
    rows: list[tuple[str, str, int, int]], ranked: bool
) -> None:
    schema = {"query_id": pl.String, "item_id": pl.String, "score": pl.Float32, "rank": pl.UInt32}
    frame = pl.DataFrame(rows, schema, orient="row")
    due = {
        query: sorted((-score, item) for of, item, score, _ in rows if of == query)
        for query in "qrs"
    }
    if ranked:  # As it should be.
        place = [due[query].index((-score, item)) + 1 for query, item, score, _ in rows]
        frame = frame.with_columns(rank=pl.Series(place, dtype=pl.UInt32))
    found = {
        query: {row["item_id"]: row["rank"] for row in frame.filter(query_id=query).to_dicts()}
        for query in "qrs"
    }
    wrong = {
        query
        for query, items in due.items()
        if found[query] != {item: place for place, (_, item) in enumerate(items, 1)}
    }
    assert set(lists.disordered(frame)) == wrong
    assert not (ranked and wrong)
