"""Checks of what learns from behaviour: silent on windows, and each planted leak is found."""

from pathlib import Path

import polars as pl
import pytest
from small_world import World

from stages.core import tables
from stages.core.params import Fit, RetrieverName
from stages.evaluate import audit
from stages.evaluate.checks import behaviour
from stages.evaluate.checks.verdict import Check
from stages.retrieve.retrievers import Parts, TrainingData, make_retriever

NAMES: list[RetrieverName] = ["popular", "item_knn", "als"]


def training(w: World, parts: tuple[str, ...], clicks_until: str | None = None) -> TrainingData:
    """A window's data; its impressions end with the last event of `clicks_until`.

    Those after the window's own last event are dated back to it, for `popular` leaves out others.
    """
    events = w.events.filter(pl.col("split").is_in(parts))
    last = events if clicks_until is None else w.events.filter(split=clicks_until)
    shown = w.impressions.filter(pl.col("timestamp") <= last["timestamp"].max())
    end = events["timestamp"].max()
    shown = shown.with_columns(pl.col("timestamp").clip(upper_bound=end))
    blank = pl.DataFrame({"item_id": [], "text": []}, {"item_id": pl.String, "text": pl.String})
    return TrainingData(blank, events=events, impressions=shown, items=w.items)


def hot(w: World, train: TrainingData, parts: Parts | None = None) -> pl.DataFrame:
    """Candidates of popular: of window fit as it is, of window train as fitted on what is given."""
    found = []
    for split, window in tables.WINDOW_OF_SPLIT.items():
        made = make_retriever("popular", Fit(), parts=parts)
        own = training(w, tables.PARTS_OF_WINDOW[window])
        made.fit(train if window == "train" else own)
        found.append(made.retrieve(w.queries.filter(split=split), 10))
    return pl.concat(found)


def hotness(w: World, train: TrainingData, parts: Parts | None = None) -> Check:
    found = hot(w, train, parts)
    rest = (w.items, w.known, w.users, True)
    return behaviour.check_hotness(found, w.queries, w.events, w.impressions, Fit().popular, *rest)


def test_what_a_window_counts_is_found_again(world: World) -> None:
    assert hotness(world, training(world, ("fit", "rank"))).passed


@pytest.mark.parametrize(
    ("parts", "until"),
    [(("fit", "rank", "valid"), None), (("fit",), None), (("fit", "rank"), "test")],
    ids=["events past the cut", "events forgotten", "clicks past the cut"],
)
def test_hotness_of_another_time(world: World, parts: tuple[str, ...], until: str | None) -> None:
    check = hotness(world, training(world, parts, until))
    assert not check.passed
    assert "valid candidates that are not what window train counts" in check.message
    assert "rank candidates" not in check.message


def in_two_parts(w: World) -> World:
    """Items and users of even numbers are of one part, those of odd ones of the other."""
    named = [
        frame.with_columns(part=pl.when(pl.col(key).str.contains("[02468]$")).then(0).otherwise(1))
        for frame, key in ((w.items, "item_id"), (w.users, "user_id"))
    ]
    items, users = (frame.with_columns(pl.col("part").cast(pl.String)) for frame in named)
    return w.replace(items=items, users=users)


def test_a_part_is_counted_alone(world: World) -> None:
    w = in_two_parts(world)
    train = training(w, ("fit", "rank"))
    assert hotness(w, train, Parts.of(w.items, w.users)).passed
    together = hotness(w, train)
    assert not together.passed
    assert "rank candidates that are not what window fit counts" in together.message


def fitted(
    w: World, folder: Path, parts: dict[str, tuple[str, ...]], shops: Parts | None = None
) -> Path:
    """Fitted retrievers in folders as the stage `fit` leaves them, windows of the given parts."""
    for name in NAMES:
        for window in tables.WINDOWS:
            made = make_retriever(name, Fit(), parts=shops)
            made.fit(training(w, parts[window]))
            (folder / name / window).mkdir(parents=True)
            made.save(folder / name / window)
    return folder


def with_new_item(w: World) -> World:
    """An item that is chosen in test for the first time."""
    item = w.events["item_id"][0]
    late = (pl.col("item_id") == item) & (pl.col("split") != "test")
    events = w.events.filter(~late)
    at = events.filter(split="test")["event_id"][0]
    new = pl.when(pl.col("event_id") == at).then(pl.lit(item)).otherwise("item_id")
    return w.replace(events=events.with_columns(item_id=new))


@pytest.fixture(params=[False, True], ids=["one shop", "two parts"])
def shops(request: pytest.FixtureRequest, world: World) -> Parts | None:
    w = in_two_parts(world)
    return Parts.of(w.items, w.users) if request.param else None


def test_ids_of_windows_pass(world: World, shops: Parts | None, tmp_path: Path) -> None:
    w = with_new_item(world)
    folder = fitted(w, tmp_path, tables.PARTS_OF_WINDOW, shops)
    check = behaviour.check_vocabularies(audit.read_ids(folder, NAMES), w.events)
    assert check.passed
    assert check.figures["ids"] > 6 * 30


def test_ids_of_the_test_split_in_a_vocabulary(
    world: World, shops: Parts | None, tmp_path: Path
) -> None:
    w = with_new_item(world)
    parts = tables.PARTS_OF_WINDOW | {"train": ("fit", "rank", "test")}
    known = audit.read_ids(fitted(w, tmp_path, parts, shops), NAMES)
    check = behaviour.check_vocabularies(known, w.events)
    for name in NAMES:
        assert f"1 items that {name} knows before window train does" in check.message
    assert "window fit" not in check.message


def test_a_user_of_the_test_split_in_a_vocabulary(world: World) -> None:
    users = world.events.filter(split="fit").select(
        pl.lit("user").alias("kind"), pl.col("user_id").unique().alias("id")
    )
    late = pl.DataFrame({"kind": ["user"], "id": ["am:unmet"]})
    fine = behaviour.check_vocabularies({("two_tower", "fit"): users}, world.events)
    assert fine.passed
    known = {("two_tower", "fit"): pl.concat([users, late])}
    check = behaviour.check_vocabularies(known, world.events)
    assert "1 users that two_tower knows before window fit does, such as am:unmet" in check.message


def drawn(w: World, parts: tuple[str, ...]) -> pl.DataFrame:
    counts = w.events.filter(pl.col("split").is_in(parts)).group_by("item_id").len("events")
    return w.items.select("item_id").join(counts, on="item_id", how="left").fill_null(0)


@pytest.mark.parametrize("parts", [("fit", "rank", "test"), ("fit",)])
def test_negatives_drawn_with_test_knowledge(world: World, parts: tuple[str, ...]) -> None:
    own = {("two_tower", w): drawn(world, p) for w, p in tables.PARTS_OF_WINDOW.items()}
    assert behaviour.check_negatives(own, world.events).passed
    planted = own | {("two_tower", "train"): drawn(world, parts)}
    check = behaviour.check_negatives(planted, world.events)
    assert not check.passed
    assert "draws otherwise than window train chose them" in check.message
    assert "window fit" not in check.message
