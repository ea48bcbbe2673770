"""Recipes of whole shops, run from raw files in the published forms as a user runs them."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from stages.core import files
from stages.publish.serving import Recommender
from stages.publish.serving.recommender import history_queries, user_query
from tests.conftest import Checkout
from tests.publish.test_service import serving

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


# H&M beside RetailRocket -------------------------------------------------------------------------


def write_hm(folder: Path) -> None:
    """Six kinds of ten garments, from three years after the other shop on, bought much more often.

    A customer's age tells nothing of the kind.
    """
    rng = np.random.default_rng(8)
    start = datetime(2018, 9, 20, tzinfo=UTC)
    bought = ["t_dat,customer_id,article_id,price,sales_channel_id"]
    for user, day, item in visits(rng, 600, 6, 10):
        at = f"{start + timedelta(days=7 * day):%Y-%m-%d}"
        bought += [f"{at},c{user},{110_000_000 + item:010d},0.02,2"] * 2
    kinds = ("Dress", "Sock", "Coat", "Belt", "Scarf", "Shirt")
    articles = ["article_id,prod_name,product_type_name"]
    articles += [f"{110_000_000 + n:010d},{kinds[n % 6]} {n},{kinds[n % 6]}" for n in range(60)]
    who = ["customer_id,age,club_member_status,fashion_news_frequency"]
    who += [f"c{user},{20 + user % 5 * 10},ACTIVE,NONE" for user in range(600)]
    for name, lines in (("transactions", bought), ("articles", articles), ("customers", who)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    settings = QUICK | {"ingest.hm_retailrocket.parts": "both"}
    settings["ingest.hm_retailrocket.hm.images"] = None
    settings["retrievers"] = ["popular", "item_knn", "als", "two_tower", "content"]
    settings["rankers"] = ["lightgbm"]
    run = Checkout(tmp_path_factory.mktemp("both"), "hm_retailrocket", settings)
    write_retailrocket(run.folder / "data" / "raw")
    write_hm(run.folder / "data" / "raw")
    run.run("dvc", "repro")
    run.commit("reproduced")
    return run


def shops_of(items: pl.Series) -> set[str]:
    return set(items.str.head(3).unique())


def test_two_shops_run_beside_each_other(both: Checkout) -> None:
    compared, counted = figures(both)
    assert counted["items"] == 96 + 60
    for name in ("item_knn", "als", "two_tower"):
        assert compared[f"{name}_vs_popular"]["recall@10"]["low"] > 0, name
    audit = json.loads((both.folder / "metrics" / "audit.json").read_text())
    queries = pl.read_parquet(both.folder / files.QUERIES)
    (parts,) = (check for check in audit["checks"] if check["name"] == "parts")
    assert parts["figures"]["queries"] == queries.height
    up_to_date(both)


def test_each_shop_is_cut_in_its_own_years(both: Checkout) -> None:
    events = pl.read_parquet(both.folder / files.SPLIT_EVENTS)
    queries = pl.read_parquet(both.folder / files.QUERIES)
    cuts = json.loads((both.folder / files.CUTS).read_text())
    assert sorted(cuts["parts"]) == ["hm", "retailrocket"]
    assert cuts["train_end_ms"] is None
    years = {"rr_": {2015}, "hm_": {2018, 2019, 2020}}
    shares = {"fit": 0.7, "rank": 0.1, "valid": 0.1, "test": 0.1}
    for shop, lived in years.items():
        own = events.filter(pl.col("item_id").str.starts_with(shop))
        assert set(own["timestamp"].dt.year()) == lived
        for split, share in shares.items():
            there = (own["split"] == split).sum() / own.height
            assert there == pytest.approx(share, abs=0.02), (shop, split)
        asked = queries.filter(pl.col("user_id").str.starts_with(shop))
        assert set(asked["timestamp"].dt.year()) <= lived
        for split in ("rank", "valid", "test"):
            assert (asked["split"] == split).sum() >= 20, (shop, split)
    page = (both.folder / files.REPORT / "index.html").read_text()
    assert "Each shop is cut in its own time (end of train: hm at 20" in page
    assert "queries later than everything it learned from of their shop" in page


def with_one_of(events: pl.DataFrame, shop: str, split: str, moved: str) -> pl.DataFrame:
    """Move the last event that a shop has in a split to another."""
    own = events.filter(pl.col("item_id").str.starts_with(shop), split=split)
    (event,) = own.sort("timestamp", "event_id").tail(1)["event_id"]
    kind = events.schema["split"]
    there = pl.when(event_id=event).then(pl.lit(moved, kind)).otherwise("split")
    return events.with_columns(split=there)


@pytest.mark.parametrize("shop", ["rr_", "hm_"])
def test_a_window_that_holds_a_shop_s_own_future_stops_the_audit(
    both: Checkout, tmp_path: Path, shop: str
) -> None:
    """What is of test in 2015 lies years before the end of the other shop's window."""
    events_file = tmp_path / "events.parquet"
    events = pl.read_parquet(both.folder / files.SPLIT_EVENTS)
    with_one_of(events, shop, "test", "fit").write_parquet(events_file)
    told = both.run(
        *(sys.executable, "-m", "stages.evaluate.audit", "--events-file", str(events_file)),
        *("--audit-file", str(tmp_path / "audit.json")),
        check=False,
    )
    name = {"rr_": "retailrocket", "hm_": "hm"}[shop]
    assert "checks fail: cuts: 1 events of fit not before all of rank, in " + name in told
    found = {c["name"]: c for c in json.loads((tmp_path / "audit.json").read_text())["checks"]}
    for check in ("cuts", "queries", "features", "hotness"):
        assert not found[check]["passed"], check
    assert f"of {name} not after window train" in found["queries"]["message"]


def test_candidates_are_of_the_shop_of_who_asks(both: Checkout) -> None:
    queries = pl.read_parquet(both.folder / files.QUERIES).select("query_id", "user_id", "split")
    for name in ("popular", "item_knn", "als", "two_tower", "content"):
        found = pl.read_parquet(both.folder / files.CANDIDATES / f"{name}.parquet")
        asked = found.join(queries, on="query_id")
        for split in ("rank", "valid", "test"):
            assert shops_of(asked.filter(split=split)["user_id"]) == {"hm_", "rr_"}, (name, split)
        assert (asked["user_id"].str.head(3) == asked["item_id"].str.head(3)).all(), name


def test_the_bundle_keeps_shops_apart(both: Checkout) -> None:
    bundle = Recommender.load(both.folder / files.BUNDLE)
    bought = {"hm_": ["hm_0110000003", "hm_0110000009"], "rr_": ["rr_1003", "rr_1011"]}
    for shop, items in bought.items():
        for strategy in bundle.strategies:
            found = bundle.recommend(history_queries([items]), 10, strategy)
            assert shops_of(found["item_id"]) == {shop}, strategy
        assert shops_of(bundle.similar(items[0], 10)["item_id"]) == {shop}
        user = "hm_c7" if shop == "hm_" else "rr_7"
        for past in (bundle.history_of(user), bundle.history_of("nobody")):
            found = bundle.recommend(user_query(user, past), 10)
            assert shops_of(found["item_id"]) == {shop}


def test_the_service_keeps_shops_apart(both: Checkout) -> None:
    with serving(both, "service:Search", both.folder) as client:
        for asked in ("recommend", "similar"):
            for shop, item in (("hm_", "hm_0110000003"), ("rr_", "rr_1003")):
                sent = {"history": [item]} if asked == "recommend" else {"item_id": item}
                found = client.post(f"/{asked}", json=sent | {"top_k": 5})
                assert found.status_code == 200, found.text
                assert {hit["item_id"][:3] for hit in found.json()["items"]} == {shop}


def test_of_nobody_known_both_shops_are_shown(both: Checkout) -> None:
    bundle = Recommender.load(both.folder / files.BUNDLE)
    found = bundle.recommend(history_queries([[]]), 10, "popular")["item_id"]
    assert (found.str.head(3) == "rr_").sum() == 5
    assert shops_of(bundle.recommend(history_queries([[]]), 20)["item_id"]) == {"hm_", "rr_"}


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
