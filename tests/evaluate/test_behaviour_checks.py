"""Checks of what learns from behaviour: silent on windows, and each planted leak is found."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from small_world import World, build

from stages.core import tables
from stages.core.log import UserError
from stages.core.params import Fit, RetrieverName, TwoTower
from stages.evaluate import audit
from stages.evaluate.checks import behaviour
from stages.evaluate.checks.verdict import Check
from stages.retrieve.retrievers import Parts, TrainingData, make_retriever
from stages.retrieve.retrievers.inputs import of_window, with_behaviour
from stages.retrieve.retrievers.two_tower import TwoTowerRetriever

NAMES: list[RetrieverName] = ["popular", "item_knn", "als", "two_tower"]
TOWERS = TwoTower.model_validate(
    {"training": "pointwise", "item_ids": True, "user_ids": True, "min_count": 1, "shown": 0.5}
    | {"dim": 8, "hidden": [8], "epochs": 1, "min_steps": 1}
)


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
            made = make_retriever(name, Fit(two_tower=TOWERS), parts=shops)
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


# Two towers, fitted ------------------------------------------------------------------------------


Plant = Callable[[World, TrainingData], TrainingData]


def saved(w: World, folder: Path, plant: Plant | None = None, shown: float = 0.5) -> Path:
    """Towers as stage `fit` leaves them, those of window train fitted on what `plant` makes."""
    params = TOWERS.model_copy(update={"shown": shown})
    for window in tables.WINDOWS:
        data = of_window(window, w.documents, None, None, w.items, w.users, None)
        in_time = w.cuts["method"] == "fractions"
        data = with_behaviour(data, window, w.events, w.impressions, in_time, None)
        if plant is not None and window == "train":
            data = plant(w, data)
        made = TwoTowerRetriever(params, store=folder / "store")
        made.fit(data)
        (folder / "two_tower" / window).mkdir(parents=True)
        made.save(folder / "two_tower" / window)
    return folder


def judged(w: World, folder: Path, draws: bool = True) -> dict[str, Check]:
    """What each rule about fitted towers says."""
    names: list[RetrieverName] = ["two_tower"]
    shown = audit.read_passed_over(folder, names)
    return {
        "vocabularies": behaviour.check_vocabularies(audit.read_ids(folder, names), w.events),
        "negatives": behaviour.check_negatives(audit.read_drawn(folder, names), w.events),
        "passed_over": behaviour.check_passed_over(
            shown, w.impressions, w.events, w.items, w.users, draws
        ),
    }


def impressions_past_the_cut(w: World, data: TrainingData) -> TrainingData:
    return replace(data, impressions=w.impressions)


def one_impression_past_the_cut(w: World, data: TrainingData) -> TrainingData:
    assert data.impressions is not None
    assert data.events is not None
    pair = ["user_id", "item_id"]
    late = w.impressions.join(data.impressions, on=pair, how="anti")
    late = late.join(data.events, on=pair, how="anti").filter(click=0).sort("timestamp")
    return replace(data, impressions=data.impressions.vstack(late.head(1)))


def passed_over_but_chosen_later(w: World, data: TrainingData) -> TrainingData:
    """What is chosen in test is spared."""
    assert data.impressions is not None
    chosen = w.events.filter(split="test")
    kept = data.impressions.join(chosen, on=["user_id", "item_id"], how="anti")
    return replace(data, impressions=kept)


def impressions_forgotten(w: World, data: TrainingData) -> TrainingData:
    return replace(data, impressions=None)


def clicks_that_were_passed_over(w: World, data: TrainingData) -> TrainingData:
    assert data.impressions is not None
    return replace(data, impressions=data.impressions.with_columns(click=pl.lit(0, pl.Int8)))


def counts_of_test(w: World, data: TrainingData) -> TrainingData:
    """Of items and users that the window knows, as if they had met in pairs that it knows too."""
    assert data.events is not None
    test = w.events.filter(split="test").join(data.events, on="item_id", how="semi")
    known = data.events.unique("item_id").select("item_id", "user_id")
    late = test.drop("user_id").join(known, on="item_id").select(data.events.columns)
    return replace(data, events=data.events.vstack(late))


def events_forgotten(w: World, data: TrainingData) -> TrainingData:
    return replace(data, events=w.events.filter(split="fit"))


def ids_of_test(w: World, data: TrainingData) -> TrainingData:
    return replace(data, events=w.events.filter(pl.col("split") != "valid"))


LEAKS: list[tuple[Plant, set[str], str]] = [
    (impressions_past_the_cut, {"passed_over"}, "draws for others than passed them over"),
    (one_impression_past_the_cut, {"passed_over"}, "1 items that two_tower draws for others"),
    (passed_over_but_chosen_later, {"passed_over"}, "draws for others than passed them over"),
    (impressions_forgotten, {"passed_over"}, "draws for others than passed them over"),
    (clicks_that_were_passed_over, {"passed_over"}, "draws for others than passed them over"),
    (counts_of_test, {"negatives"}, "draws otherwise than window train chose them"),
    (events_forgotten, {"negatives", "passed_over"}, "draws otherwise than window train"),
    (
        ids_of_test,
        {"vocabularies", "negatives", "passed_over"},
        "1 users that two_tower knows before window train does, such as am:late",
    ),
]


def with_new_user(w: World) -> World:
    """Somebody who chooses in test for the first time."""
    at = w.events.filter(split="test")["event_id"][0]
    who = pl.when(pl.col("event_id") == at).then(pl.lit("am:late")).otherwise("user_id")
    events = w.events.with_columns(user_id=who)
    return w.replace(events=events, users=events.select(pl.col("user_id").unique().sort()))


@pytest.fixture(scope="module", params=[False, True], ids=["cut in time", "last out"])
def shop(request: pytest.FixtureRequest) -> World:
    return with_new_user(with_new_item(build(last_out=request.param)))


def test_towers_of_their_windows_pass(shop: World, tmp_path: Path) -> None:
    checks = judged(shop, saved(shop, tmp_path))
    assert all(check.passed for check in checks.values()), checks
    assert checks["vocabularies"].figures["ids"] > 2 * 60
    assert checks["passed_over"].figures["pairs"] > 2 * 300


@pytest.mark.parametrize(
    ("plant", "expected", "said"), LEAKS, ids=lambda v: getattr(v, "__name__", "")
)
def test_towers_that_learned_of_later_are_stopped(
    plant: Plant, expected: set[str], said: str, shop: World, tmp_path: Path
) -> None:
    checks = judged(shop, saved(shop, tmp_path, plant))
    assert {name for name, check in checks.items() if not check.passed} == expected
    assert any(said in checks[name].message for name in expected), checks
    assert all("window fit" not in check.message for check in checks.values())


def test_towers_that_draw_nothing_passed_over_hold_none(world: World, tmp_path: Path) -> None:
    check = judged(world, saved(world, tmp_path / "none", shown=0.0), draws=False)["passed_over"]
    assert check.passed
    assert check.message == "None draws any."
    folder = saved(world, tmp_path / "some")
    assert not judged(world, folder, draws=False)["passed_over"].passed


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (None, None),
        (impressions_past_the_cut, "1 of 21 checks fail: passed_over"),
        (counts_of_test, "1 of 21 checks fail: negatives"),
        # An item that is new in test is none that the other tables were made with.
        (ids_of_test, "vocabularies: 1 items that two_tower knows before window train does"),
    ],
)
def test_the_stage_stops_towers_that_learned_of_later(
    plant: Plant | None,
    said: str | None,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    w = with_new_item(world) if plant is ids_of_test else world
    fit = world.params.fit.model_copy(update={"two_tower": TOWERS})
    names = [*world.params.retrievers, "two_tower"]
    params = world.params.model_copy(update={"retrievers": names, "fit": fit})
    found_nothing = [
        pl.lit(None, pl.Float32).alias(f"two_tower_{name}") for name in ("score", "rank", "gap")
    ]
    w = w.replace(params=params, examples=world.examples.with_columns(found_nothing))
    folder = w.write(tmp_path)
    none = world.candidates.clear()
    tables.write(none, folder / "data" / "candidates" / "two_tower.parquet", tables.CANDIDATES)
    saved(w, folder / "models" / "retrievers", plant)
    monkeypatch.chdir(folder)
    if said is None:
        audit.main()
    else:
        with pytest.raises(UserError, match=said):
            audit.main()
