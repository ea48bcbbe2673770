import io
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from PIL import Image

from stages.core import files, tables
from stages.core.params import Sample
from stages.prepare.sources import Ingested, sample
from stages.prepare.sources import sample_texts as texts
from tests.prepare.conftest import digest


@pytest.fixture(scope="module")
def shop() -> Ingested:
    return sample.generate(Sample(), 7)


@pytest.fixture(scope="module")
def written(shop: Ingested) -> pl.DataFrame:
    """Reviews with the truth about them and about their items."""
    return shop.events.join(shop.truth["events"], on="event_id", maintain_order="left").join(
        shop.truth["items"], on="item_id", maintain_order="left"
    )


def test_scale_and_contracts(shop):
    assert (shop.events.height, shop.items.height, shop.users.height) == (6000, 600, 1500)
    assert shop.impressions.height == 20000
    for frame, table in (
        (shop.items, tables.ITEMS),
        (shop.users, tables.USERS),
        (shop.events, tables.EVENTS),
        (shop.impressions, tables.IMPRESSIONS),
    ):
        tables.check(frame, table)
    ids = [shop.items["item_id"], shop.users["user_id"]]
    assert all(values.str.starts_with("sa_").all() for values in ids)
    assert shop.events["item_id"].is_in(ids[0].implode()).all()
    assert shop.impressions["user_id"].is_in(ids[1].implode()).all()


def test_the_same_seed_gives_the_same_files(run_ingest):
    scale = {"reviews": 500, "items": 40, "users": 80, "impressions": 200, "pictures": 5}
    first = run_ingest("sample", sample=scale)
    assert len(first["digest"]) == 5 + 4 + 5
    assert run_ingest("sample", sample=scale)["digest"] == first["digest"]
    other = run_ingest("sample", sample=scale | {"reviews": 501})
    assert other["digest"] != first["digest"]
    assert other["metrics"]["rows"] == 501


def test_another_seed_gives_another_shop(shop):
    other = sample.generate(Sample(reviews=200, pictures=0), 8)
    assert not set(other.events["text"]) & set(shop.events["text"])


def test_pictures_lie_where_the_items_say(run_ingest):
    out = run_ingest("sample", sample={"reviews": 300, "items": 30, "users": 50, "pictures": 6})
    named = out["items"].drop_nulls("image")
    assert sorted(named["image"]) == sorted(path.name for path in files.PICTURES.iterdir())
    # The first of the catalogue: to have a picture says nothing of how many reviews come.
    assert named["item_id"].to_list() == out["items"]["item_id"].sort().head(6).to_list()


def test_pictures_show_attributes(shop):
    items = shop.items.join(shop.truth["items"].select("item_id", "shade", "kind"), on="item_id")
    colors: dict[str, set] = {}
    for row in items.drop_nulls("image").iter_rows(named=True):
        image = Image.open(io.BytesIO(shop.pictures[row["image"]])).convert("RGB")
        assert image.size == (96, 96)
        found = {color for _, color in image.getcolors(1 << 16)}
        colors.setdefault(row["shade"] or row["scent"], []).append(found)
    shared = [set.intersection(*found) for found in colors.values() if len(found) > 1]
    assert len(shared) > 5
    assert all(shared)


def test_reviews_are_of_readable_length(shop):
    words = shop.events["text"].str.split(" ").list.len()
    assert words.min() >= 20
    assert words.max() <= 80
    assert 35 < words.mean() < 55
    assert shop.events["text"].n_unique() > 0.98 * shop.events.height


@pytest.mark.parametrize("attribute", list(texts.MENTION))
def test_reviews_name_the_attributes_of_their_item(written, attribute):
    lay = {word.name: word.lay for word in texts.ATTRIBUTES[attribute]}
    rows = written.filter(pl.col(f"names_{attribute}"), pl.col("text").str.len_chars() < 300)
    assert rows.height > 300
    for text, value in rows.select(pl.col("text").str.to_lowercase(), attribute).iter_rows():
        assert any(said.lower() in text for said in lay[value]), (text, value)


def test_titles_are_seldom_quoted(shop):
    titles = shop.events.join(
        shop.items.select("item_id", item_title="title"), on="item_id", maintain_order="left"
    )
    quoted = (
        titles["text"]
        .str.to_lowercase()
        .str.contains(titles["item_title"].str.to_lowercase(), literal=True)
    )
    assert 0.01 < quoted.mean() < 0.05


def test_some_reviews_are_vague(written):
    named = written.select(pl.sum_horizontal(pl.col(f"names_{n}") for n in texts.MENTION))
    assert 0.05 < (named.to_series() == 0).mean() < 0.3


def test_words_find_an_item_often_but_not_always(shop):
    """BM25 over title and features, reviews as queries: neither hopeless nor trivial."""
    import bm25s

    documents = shop.items.select(
        pl.concat_str("title", pl.col("features").list.join(". "), separator=". ")
    ).to_series()
    index = bm25s.BM25()
    index.index(bm25s.tokenize(documents.to_list(), show_progress=False), show_progress=False)
    asked = shop.events.tail(600)
    found, _ = index.retrieve(
        bm25s.tokenize(asked["text"].to_list(), show_progress=False), k=10, show_progress=False
    )
    targets = asked["item_id"].str.slice(4).cast(pl.Int64).to_numpy()
    recall = (found == targets[:, None]).any(axis=1).mean()
    assert 0.2 < recall < 0.6


def test_descriptions_are_missing_short_and_long(shop):
    length = shop.items["description"].str.len_chars()
    assert 0.05 < length.null_count() / len(length) < 0.2
    assert 0.1 < (length > 300).mean() < 0.6
    assert (shop.items["features"].list.len() >= 3).mean() > 0.5
    assert shop.items["title"].n_unique() == shop.items.height


def test_people_take_what_they_like(shop, written):
    stars = written.group_by("value").agg(pl.col("affinity").mean()).sort("value")["affinity"]
    assert stars.is_sorted()
    users = shop.truth["users"]["latent"].to_numpy()
    items = shop.truth["items"]["latent"].to_numpy()
    assert np.allclose(np.linalg.norm(items, axis=1), 1, atol=1e-5)
    assert written["affinity"].mean() > np.einsum("uf,if->ui", users, items).mean() + 0.2


def test_tastes_move_with_time(shop, written):
    """Late choices are nearer to where a taste went than to where it came from."""
    end = shop.events["timestamp"].max()
    late = written.filter(pl.col("timestamp") > end - timedelta(days=120))
    user = late["user_id"].str.slice(4).cast(pl.Int64).to_numpy()
    item = late["latent"].to_numpy()
    drift = shop.truth["users"]["drift"].to_numpy()[user]
    assert (item * drift).sum(axis=1).mean() > 0.05


def test_attention_has_a_long_tail(shop):
    counts = np.sort(shop.events["item_id"].value_counts()["count"].to_numpy())[::-1]
    assert counts[:60].sum() > 0.3 * counts.sum()
    assert np.median(counts) < counts.mean()


def test_nothing_is_reviewed_or_shown_before_its_time(shop):
    launched = shop.truth["items"].select("item_id", "launched")
    joined = shop.truth["users"].select("user_id", "joined")
    for frame in (shop.events, shop.impressions):
        dated = frame.join(launched, on="item_id").join(joined, on="user_id")
        assert (dated["timestamp"] >= dated["launched"]).all()
        assert (dated["timestamp"] >= dated["joined"]).all()


def test_later_parts_hold_new_users_and_new_items(shop):
    ordered = shop.events.sort("timestamp")
    train, rest = ordered.head(4800), ordered.tail(1200)
    for name, least in (("user_id", 0.05), ("item_id", 0.01)):
        new = ~rest[name].is_in(train[name].unique().implode())
        assert least < new.mean() < 0.5


def test_clicks_follow_place_and_taste(shop):
    shown = shop.impressions.join(shop.truth["impressions"], on="impression_id")
    by_place = shown.group_by("position").agg(pl.col("click").mean()).sort("position")["click"]
    assert by_place[0] > 1.5 * by_place[3] > 1.5 * by_place[9]
    likely = shown.with_columns(band=(5 * pl.col("p_click").rank("ordinal") / pl.len()).ceil())
    bands = likely.group_by("band").agg(pl.col("click", "p_click").mean())
    assert (bands["click"] - bands["p_click"]).abs().max() < 0.02
    top = shown.filter(position=1)
    liked = top["affinity"] > top["affinity"].median()
    assert top.filter(liked)["click"].mean() > top.filter(~liked)["click"].mean() + 0.05
    assert (shown["conversion"] <= shown["click"]).all()
    bought = shown.filter(click=1)
    assert abs(bought["conversion"].mean() - bought["p_conversion"].mean()) < 0.03


def test_a_shop_of_few_of_each_works():
    small = sample.generate(Sample(reviews=200, items=20, users=20, impressions=0, pictures=0), 1)
    assert small.events.height == 200
    assert small.impressions.is_empty()
    tables.check(small.impressions, tables.IMPRESSIONS)


def test_digest_sees_every_file(tmp_path):
    (tmp_path / "a").write_text("x")
    assert list(digest(tmp_path)) == ["a"]
