"""Recipes of whole shops, run from raw files in the published forms as a user runs them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from stages.core import files
from stages.publish.serving import Recommender
from stages.publish.serving.recommender import history_queries, user_query
from tests.conftest import Checkout

pytestmark = pytest.mark.slow

DAY = 86_400_000
START = 1_433_203_200_000
QUICK: dict[str, Any] = {
    "candidates.top_k": 20,
    "evaluate.bootstrap": 200,
    "fit.two_tower.dim": 16,
    "fit.two_tower.hidden": [32],
    "fit.two_tower.min_steps": 200,
    # Few queries a split: every verdict that is a matter of statistics is wide here.
    "audit.max_rank_excess": 0.9,
    "audit.max_shuffled_auc": 0.9,
}


def visits(rng: np.random.Generator, users: int, groups: int, size: int) -> list[tuple[int, ...]]:
    """(user, day, item) of users who stay within a group of items, and one time in six do not."""
    rows = []
    for user in range(users):
        day = int(rng.integers(0, 60))
        group = user % groups
        for _ in range(int(rng.integers(4, 12))):
            whim = rng.random() < 1 / 6
            item = (
                int(rng.integers(groups * size))
                if whim
                else int(group + groups * rng.integers(size))
            )
            rows.append((user, day, item))
            day += int(rng.integers(1, 6))
    return rows


def figures(run: Checkout) -> tuple[dict[str, Any], dict[str, Any]]:
    metrics = run.folder / "metrics"
    audit = json.loads((metrics / "audit.json").read_text())
    assert audit["failed"] == 0, audit
    compared = json.loads((metrics / "details.json").read_text())["comparisons"]["test"]
    return compared["retrieval"], json.loads((metrics / "ingest.json").read_text())


def up_to_date(run: Checkout) -> None:
    assert "Data and pipelines are up to date" in run.run("dvc", "repro")
    assert run.run("git", "status", "--porcelain") == ""


# RetailRocket ------------------------------------------------------------------------------------


def write_retailrocket(folder: Path) -> None:
    """Eight categories of twelve items; one item changes its category at the end."""
    rng = np.random.default_rng(5)
    events = ["timestamp,visitorid,event,itemid,transactionid"]
    for user, day, item in visits(rng, 400, 8, 12):
        at = START + day * DAY + int(rng.integers(DAY))
        events.append(f"{at},{user},view,{1000 + item},")
        if rng.random() < 0.3:
            events.append(f"{at + 60_000},{user},addtocart,{1000 + item},")
        if rng.random() < 0.1:
            events.append(f"{at + 90_000},{user},transaction,{1000 + item},{len(events)}")
    first = [f"{START - DAY},{1000 + item},categoryid,{20 + item % 8}" for item in range(96)]
    late = [f"{START + 110 * DAY},1000,categoryid,21", f"{START - DAY},1000,available,1"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.csv").write_text("\n".join(events) + "\n")
    header = ["timestamp,itemid,property,value"]
    (folder / "item_properties_part1.csv").write_text("\n".join(header + first) + "\n")
    (folder / "item_properties_part2.csv").write_text("\n".join(header + late) + "\n")
    tree = ["categoryid,parentid", "1,", *[f"{20 + n},1" for n in range(8)]]
    (folder / "category_tree.csv").write_text("\n".join(tree) + "\n")


@pytest.fixture(scope="module")
def retailrocket(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    settings = QUICK | {"ingest.hm_retailrocket.parts": "retailrocket"}
    settings["fit.popular.segments"] = ["category"]
    settings["retrievers"] = ["popular", "item_knn", "als", "two_tower"]
    run = Checkout(tmp_path_factory.mktemp("rr"), "hm_retailrocket", settings)
    write_retailrocket(run.folder / "data" / "raw")
    run.run("dvc", "repro")
    run.commit("reproduced")
    return run


def test_a_shop_of_visits_runs_from_raw_files(retailrocket: Checkout) -> None:
    compared, counted = figures(retailrocket)
    assert counted["items"] == 96
    for name in ("item_knn", "als", "two_tower"):
        assert compared[f"{name}_vs_popular"]["recall@10"]["low"] > 0, name
    up_to_date(retailrocket)


def test_windows_know_items_as_they_were(retailrocket: Checkout) -> None:
    known = pl.read_parquet(retailrocket.folder / files.SPLIT_PROPERTIES).filter(
        item_id="rr_1000", name="categories"
    )
    cuts = json.loads((retailrocket.folder / files.CUTS).read_text())
    assert cuts["train_end_ms"] < START + 110 * DAY
    assert known["value"].to_list() == ["1 > 20", "1 > 20"]


def test_visitors_are_answered_by_history(retailrocket: Checkout) -> None:
    bundle = Recommender.load(retailrocket.folder / files.BUNDLE)
    found = bundle.recommend(history_queries([["rr_1003", "rr_1011"]]), 5)
    groups = [int(item.removeprefix("rr_")) % 8 for item in found["item_id"]]
    assert groups.count(1003 % 8) >= 4


# A feed ------------------------------------------------------------------------------------------

LONG = 18_292_817_638_588_630_000
"""Beyond int64, as the feed's ids are."""


def write_feed(folder: Path) -> None:
    """Six groups of users click what is of their group; a tag of both says which it is."""
    rng = np.random.default_rng(6)
    shop = []
    for user, day, item in visits(rng, 400, 6, 10):
        for _ in range(2):
            shown = int(rng.integers(60))
            at = START + day * DAY + int(rng.integers(DAY))
            shop.append((at, LONG + user, LONG + 5000 + shown, int(shown % 6 == user % 6)))
        shop.append((START + (day + 1) * DAY - 1, LONG + user, LONG + 5000 + item, 1))
    shop.sort()
    folder.mkdir(parents=True, exist_ok=True)
    lines = [",".join(map(str, row)) for row in shop]
    (folder / "shop.dat").write_text("\n".join(lines) + "\n")
    users = [f"{LONG + user},{user % 6},{user % 2}" for user in range(401)]
    (folder / "user_feature.dat").write_text("\n".join(users) + "\n")
    items = [f"{LONG + 5000 + item},{item % 6},{item % 3},7" for item in range(60)]
    (folder / "item_feature.dat").write_text("\n".join(items) + "\n")


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    settings = QUICK | {
        "retrievers": ["popular", "two_tower"],
        "blend.method": "interleave",
        "fit.two_tower.repeat": True,
        "fit.two_tower.shown": 0.3,
        "fit.popular.repeat": True,
    }
    run = Checkout(tmp_path_factory.mktemp("feed"), "homepage_feed", settings)
    write_feed(run.folder / "data" / "raw")
    run.run("dvc", "repro")
    run.commit("reproduced")
    return run


def test_a_feed_runs_from_raw_files(feed: Checkout) -> None:
    compared, counted = figures(feed)
    assert counted["unseen_users"] == 1
    assert compared["two_tower_vs_popular"]["recall@10"]["low"] > 0
    up_to_date(feed)


def test_a_feed_answers_users_by_their_exact_ids(feed: Checkout) -> None:
    bundle = Recommender.load(feed.folder / files.BUNDLE)
    groups = []
    for user in (4, 5):
        name = f"hf_{LONG + user}"
        query = user_query(name, bundle.history_of(name))
        found = bundle.recommend(query, 5, "two_tower")["item_id"].to_list()
        groups.append([(int(item.removeprefix("hf_")) - LONG - 5000) % 6 for item in found])
    assert groups[0].count(4) >= 4
    assert groups[1].count(5) >= 4


def test_a_user_who_never_appeared_is_answered_as_a_new_one(feed: Checkout) -> None:
    bundle = Recommender.load(feed.folder / files.BUNDLE)
    name = f"hf_{LONG + 400}"
    past = bundle.history_of(name)
    assert len(past) == 0
    assert bundle.recommend(user_query(name, past), 5).height == 5
