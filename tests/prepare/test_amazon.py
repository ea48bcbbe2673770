import gzip
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from stages.core.log import UserError
from stages.core.params import Sample
from stages.prepare.sources import amazon, json_lines, sample
from stages.prepare.sources.amazon_writer import write_amazon_jsonl
from tests.prepare.published import (
    METADATA_2014,
    METADATA_2018,
    METADATA_2023,
    REVIEW_2014,
    REVIEW_2018,
    REVIEW_2023,
    write_lines,
)

ANOTHER = REVIEW_2023 | {"user_id": "AOTHER", "timestamp": 1588687728999}


def test_reads_2023(run_ingest):
    write_lines(Path("raw/All_Beauty.jsonl"), REVIEW_2023)
    write_lines(Path("raw/meta_All_Beauty.jsonl"), METADATA_2023)
    out = run_ingest()
    assert out["events"].to_dicts() == [
        {
            "event_id": "am_AGKHLEW2SOWHNMFQIJGBECAF7INQ:am_B00YQ6X8EO:1588687728923",
            "user_id": "am_AGKHLEW2SOWHNMFQIJGBECAF7INQ",
            "item_id": "am_B00YQ6X8EO",
            "timestamp": datetime(2020, 5, 5, 14, 8, 48, 923000, UTC),
            "event": "rate",
            "value": 5.0,
            "title": REVIEW_2023["title"],
            "text": REVIEW_2023["text"],
            "helpful_vote": 0,
            "verified_purchase": True,
        }
    ]
    assert out["items"].to_dicts() == [
        {
            "item_id": "am_B00YQ6X8EO",
            "title": "Herbivore Sea Mist",
            "description": "Texturizing salt spray. With coconut.",
            "features": ["Beach waves", "Vegan"],
            "categories": ["All Beauty"],
            "brand": "Herbivore Botanicals",
            "price": 12.99,
            "image": "https://a/l.jpg",
            "details": '{"UPC": "617390882781", "Item Form": "Spray"}',
        }
    ]
    assert out["users"]["user_id"].to_list() == ["am_AGKHLEW2SOWHNMFQIJGBECAF7INQ"]
    assert out["impressions"].is_empty()
    assert out["metrics"] == {
        "rows": 1,
        "events": 1,
        "duplicates": 0,
        "bad_rows": 0,
        "items": 1,
        "users": 1,
        "impressions": 0,
        "properties": 0,
        "unseen_users": 0,
        "first_time": "2020-05-05T14:08:48.923+00:00",
        "last_time": "2020-05-05T14:08:48.923+00:00",
    }


def test_reads_2018_and_2014_beside_2023(run_ingest):
    write_lines(Path("raw/a.json"), REVIEW_2018)
    write_lines(Path("raw/b.json"), REVIEW_2014)
    write_lines(Path("raw/c.jsonl"), REVIEW_2023)
    write_lines(Path("raw/meta_a.json"), METADATA_2018)
    write_lines(Path("raw/meta_b.json"), METADATA_2014)
    out = run_ingest()
    rows = {row["item_id"]: row for row in out["events"].to_dicts()}
    new, old = rows["am_B0000530HU"], rows["am_1384719342"]
    assert new["event_id"] == "am_A3CIUOJXQ5VDQ2:am_B0000530HU:1472688000000"
    assert (new["value"], new["title"]) == (4.0, "Four Stars")
    assert (new["helpful_vote"], new["verified_purchase"]) == (1003, True)
    assert (old["text"], old["title"]) == (REVIEW_2014["reviewText"], "Jake")
    assert (old["helpful_vote"], old["verified_purchase"]) == (13, None)
    assert old["timestamp"] == datetime(2013, 3, 16, tzinfo=UTC)
    items = {row["item_id"]: row for row in out["items"].to_dicts()}
    assert items["am_B0000530HU"] == {
        "item_id": "am_B0000530HU",
        "title": "Ice Blue Aqua Velva",
        "description": "Shaves close.",
        "features": ["Cooling"],
        "categories": ["Beauty", "Shave"],
        "brand": "Aqua Velva",
        "price": 7.99,
        "image": "https://c/1.jpg",
        "details": None,
    }
    assert items["am_1384719342"]["categories"] == ["Musical Instruments", "Microphones"]
    assert items["am_1384719342"]["price"] == 9.5
    assert items["am_1384719342"]["image"] == "https://d/1.jpg"
    bare = items["am_B00YQ6X8EO"]
    assert bare["features"] == bare["categories"] == []
    assert bare["title"] is bare["price"] is bare["image"] is None


def test_items_are_those_with_metadata_and_those_reviewed(run_ingest):
    write_lines(Path("raw/r.jsonl"), REVIEW_2023)
    write_lines(Path("raw/meta_r.jsonl"), METADATA_2023 | {"parent_asin": "B0UNSEEN"})
    assert run_ingest()["items"]["item_id"].to_list() == ["am_B00YQ6X8EO", "am_B0UNSEEN"]


def test_variants_fold_into_their_parent(run_ingest):
    rows = [REVIEW_2023 | {"asin": asin, "text": asin} for asin in ("B1", "B2", "B3")]
    write_lines(Path("raw/r.jsonl"), *rows)
    out = run_ingest()
    assert out["items"]["item_id"].to_list() == ["am_B00YQ6X8EO"]
    assert out["events"]["item_id"].unique().to_list() == ["am_B00YQ6X8EO"]
    assert out["metrics"]["events"] == 3


def test_exact_duplicates_are_dropped_and_other_reviews_of_the_key_numbered(run_ingest):
    rows = [
        REVIEW_2023 | {"text": "b"},
        REVIEW_2023 | {"text": "b"},
        REVIEW_2023 | {"text": "b", "helpful_vote": 9, "title": "Z"},
        REVIEW_2023 | {"text": "a"},
        REVIEW_2023 | {"text": "c", "asin": "BVARIANT"},
        REVIEW_2023 | {"text": "c"},
        ANOTHER,
    ]
    seen = []
    for order in range(4):
        random.Random(order).shuffle(rows)
        write_lines(Path("raw/r.jsonl"), *rows)
        out = run_ingest()
        key = "am_AGKHLEW2SOWHNMFQIJGBECAF7INQ:am_B00YQ6X8EO:1588687728923"
        texts = dict(out["events"].select("event_id", "text").iter_rows())
        assert [texts.get(key + end) for end in ("", ":1", ":2", ":3")] == ["a", "b", "c", "c"]
        assert out["metrics"]["rows"] == 7
        assert out["metrics"]["duplicates"] == 2
        assert out["metrics"]["events"] == 5
        seen.append(out["digest"])
    assert all(digest == seen[0] for digest in seen)


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data[:80]) + gzip.compress(data[80:])


def _zstd(data: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor()
    return compressor.compress(data[:80]) + compressor.compress(data[80:])


@pytest.mark.parametrize(("name", "pack"), [("r.jsonl.gz", _gzip), ("r.jsonl.zst", _zstd)])
def test_compressed_files_of_several_members_read_as_plain_ones(run_ingest, name, pack):
    plain = write_lines(Path("raw/r.jsonl"), REVIEW_2023, ANOTHER)
    expected = run_ingest()["digest"]
    data = plain.read_bytes()
    plain.unlink()
    packed = Path("raw") / name
    packed.write_bytes(pack(data))
    assert run_ingest()["digest"] == expected
    packed.write_bytes(pack(data)[:-12])
    with pytest.raises(UserError, match=rf"{name}: compressed data are damaged or end"):
        run_ingest()


def test_several_files_are_one(run_ingest):
    write_lines(Path("raw/a.jsonl"), REVIEW_2023, ANOTHER)
    expected = run_ingest()
    Path("raw/a.jsonl").unlink()
    write_lines(Path("raw/b.jsonl"), ANOTHER, "", "")
    write_lines(Path("raw/c.jsonl"), REVIEW_2023, ANOTHER)
    out = run_ingest()
    assert out["digest"] == expected["digest"]
    assert out["metrics"] == expected["metrics"] | {"rows": 3, "duplicates": 1}


def test_globs_choose_files(run_ingest):
    write_lines(Path("raw/deep/one.txt"), REVIEW_2023)
    write_lines(Path("raw/two.jsonl"), "no JSON")
    write_lines(Path("raw/deep/items.txt"), METADATA_2023)
    options = {"reviews": ["**/one.txt"], "metadata": ["deep/items*"]}
    out = run_ingest(amazon=options)
    assert out["metrics"]["events"] == 1
    assert out["items"]["title"].to_list() == ["Herbivore Sea Mist"]


BAD_LINES = {
    "not JSON": ("no JSON", "not JSON"),
    "cut short": (json.dumps(REVIEW_2023)[:50], "not JSON"),
    "two on a line": (json.dumps(REVIEW_2023) * 2, "not JSON"),
    "a list": ("[1, 2]", "no JSON object"),
    "not a number": ('{"rating": NaN}', "NaN is no JSON number"),
    "no time": ({k: v for k, v in REVIEW_2023.items() if k != "timestamp"}, "'timestamp' is mis"),
    "no text": ({k: v for k, v in REVIEW_2023.items() if k != "text"}, "'text' is missing"),
    "null user": (REVIEW_2023 | {"user_id": None}, "'user_id' is null"),
    "empty user": (REVIEW_2023 | {"user_id": ""}, "'user_id' is \"\", expected an id"),
    "user object": (REVIEW_2023 | {"user_id": {"a": 1}}, "'user_id' is {"),
    "time in words": (REVIEW_2023 | {"timestamp": "May"}, "'timestamp' is \"May\", expected a num"),
    "negative time": (REVIEW_2023 | {"timestamp": -5}, "is -5, expected a time between 1995"),
    "seconds": (REVIEW_2023 | {"timestamp": 1588687728}, "is 1588687728, expected .* milliseconds"),
    "far future": (REVIEW_2023 | {"timestamp": 4102444800001}, "expected a time between"),
    "huge": (REVIEW_2023 | {"timestamp": 1e300}, "expected a time between"),
    "half a millisecond": (REVIEW_2023 | {"timestamp": 1588687728923.5}, "expected a time"),
    "stars in words": (REVIEW_2023 | {"rating": "five"}, "'rating' is \"five\", expected a number"),
    "too many stars": (REVIEW_2023 | {"rating": 50}, "'rating' is 50, expected a rating from 0"),
    "no Boolean": (REVIEW_2023 | {"verified_purchase": "y"}, "expected true or false"),
    "2018 row": (REVIEW_2018, "'user_id' is missing"),
}


@pytest.mark.parametrize("case", BAD_LINES)
@pytest.mark.parametrize("block", [1, 1 << 24])
def test_a_bad_line_is_named(run_ingest, monkeypatch, case, block):
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
    line, reason = BAD_LINES[case]
    write_lines(Path("raw/a.jsonl"), ANOTHER)
    write_lines(Path("raw/b.jsonl"), REVIEW_2023, "", ANOTHER, line, ANOTHER, "worse")
    with pytest.raises(UserError, match=rf"raw/b.jsonl:4: .*{reason}.*on_bad_row: skip"):
        run_ingest()
    assert not Path("data").exists()


def test_a_line_of_no_utf8_is_named(run_ingest):
    path = write_lines(Path("raw/a.jsonl"), REVIEW_2023)
    path.write_bytes(path.read_bytes() + b'{"text": "\xff"}\n')
    with pytest.raises(UserError, match=r"a.jsonl:2: not UTF-8 at byte 11"):
        run_ingest()


@pytest.mark.parametrize("block", [1, 2000, 1 << 24])
def test_bad_lines_are_left_out_up_to_a_limit(run_ingest, monkeypatch, block):
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
    good = [REVIEW_2023 | {"user_id": f"A{place:03}"} for place in range(60)]
    write_lines(Path("raw/r.jsonl"), *good)
    expected = run_ingest()
    rows: list = list(good)
    for place, (line, _) in enumerate(BAD_LINES.values()):
        rows.insert(1 + 4 * place, line)
    write_lines(Path("raw/r.jsonl"), *rows)
    out = run_ingest(on_bad_row="skip", max_bad_rows=len(BAD_LINES))
    assert out["digest"] == expected["digest"]
    bad = len(BAD_LINES)
    assert out["metrics"] == expected["metrics"] | {"rows": 60 + bad, "bad_rows": bad}
    with pytest.raises(UserError, match=r"this is bad line 5 and ingest.max_bad_rows is 4"):
        run_ingest(on_bad_row="skip", max_bad_rows=4)


def test_left_out_lines_are_logged(run_ingest, caplog):
    write_lines(Path("raw/r.jsonl"), REVIEW_2023, "no JSON")
    json_lines.log.addHandler(caplog.handler)
    try:
        run_ingest(on_bad_row="skip")
    finally:
        json_lines.log.removeHandler(caplog.handler)
    assert "left out raw/r.jsonl:2: not JSON" in caplog.text


@pytest.mark.parametrize(
    ("images", "url"),
    [
        ([], None),
        (None, None),
        ([{"hi_res": None, "large": "l", "thumb": "t"}], "l"),
        ([{"hi_res": None, "large": None, "thumb": None}, {"large": "second"}], "second"),
        ({"hi_res": [None, None], "large": ["l"]}, "l"),
        (["u", "v"], "u"),
        ("u", "u"),
    ],
)
def test_the_first_image_is_kept(run_ingest, images, url):
    write_lines(Path("raw/r.jsonl"), REVIEW_2023)
    write_lines(Path("raw/meta_r.jsonl"), METADATA_2023 | {"images": images})
    assert run_ingest()["items"]["image"].item() == url


def test_a_glob_that_leaves_the_folder_is_refused(run_ingest):
    write_lines(Path("raw/r.jsonl"), REVIEW_2023)
    for glob in ("/data/*.jsonl", ""):
        with pytest.raises(UserError, match=r"ingest.amazon: .* is no glob inside raw"):
            run_ingest(amazon={"reviews": [glob]})


def test_bad_metadata_lines_count_too(run_ingest):
    write_lines(Path("raw/r.jsonl"), REVIEW_2023)
    write_lines(Path("raw/meta_r.jsonl"), METADATA_2023 | {"parent_asin": ["B1"]})
    with pytest.raises(UserError, match=r"meta_r.jsonl:1: column 'parent_asin' is ..B1.., expec"):
        run_ingest()
    write_lines(Path("raw/meta_r.jsonl"), METADATA_2023, '{"title": "no key"}')
    with pytest.raises(UserError, match=r"meta_r.jsonl:2: column 'parent_asin' is missing"):
        run_ingest()
    out = run_ingest(on_bad_row="skip")
    assert out["metrics"]["bad_rows"] == 1
    assert out["metrics"]["rows"] == 1


def test_a_python_literal_is_refused_with_the_remedy(run_ingest):
    write_lines(Path("raw/r.jsonl"), REVIEW_2014)
    write_lines(Path("raw/meta_r.json"), str(METADATA_2014))
    with pytest.raises(
        UserError, match=r"meta_r.json:1: not JSON but a Python literal.*literal_ev"
    ):
        run_ingest()


def test_a_file_of_another_kind_is_refused(run_ingest):
    write_lines(Path("raw/catalogue.jsonl"), METADATA_2023)
    with pytest.raises(UserError, match=r"catalogue.jsonl:1: columns .* are of no known shape"):
        run_ingest()


def test_missing_files_are_one_sentence(run_ingest):
    with pytest.raises(UserError, match="raw: no such folder"):
        run_ingest()
    write_lines(Path("raw/meta_only.jsonl"), METADATA_2023)
    with pytest.raises(UserError, match=r"raw: no file matches \*.jsonl\*, \*.json\*"):
        run_ingest()
    Path("raw/empty.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match="no review in the files"):
        run_ingest()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_blocks_are_whole_lines_and_numbered(tmp_path, monkeypatch, pack, size, end):
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", size)
    text = b"a\n\nbcdefgh\n\r\nij\n" + b"k" * 10 + end
    path = tmp_path / "lines"
    path.write_bytes(pack(text))
    consumed: list[int] = []
    found = list(json_lines.blocks(path, consumed.append))
    assert b"".join(block for _, block in found) == text
    for number, block in found:
        assert text.split(b"\n")[number - 1] == block.split(b"\n")[0]
        assert len(block) >= size or text.endswith(block)
    assert all(block.endswith(b"\n") for _, block in found[:-1])
    assert sum(consumed) == path.stat().st_size


def test_odd_but_good_lines_are_read(run_ingest):
    texts = ['é😀 \n\t"quoted"', "", "x" * 100_000]
    rows = [REVIEW_2023 | {"user_id": f"A{i}", "text": text} for i, text in enumerate(texts)]
    path = write_lines(Path("raw/r.jsonl"), *rows, REVIEW_2023 | {"timestamp": 1588687728923.0})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").rstrip())
    out = run_ingest()["events"]
    assert out.height == 4
    assert out.sort("user_id")["text"].to_list()[:3] == texts


@pytest.mark.parametrize(
    ("raw", "price"),
    [
        ("$12.99", 12.99),
        ("from 5.00", 5.0),
        ("12.5", 12.5),
        ("$1,299.00", 1299.0),
        ("$9.99 - $12.99", 9.99),
        ("€3", 3.0),
        ("", None),
        ("—", None),
        ("None", None),
        (".a-box-inner{background-color:#fff} 12", None),
        ("-4", None),
        (None, None),
    ],
)
def test_prices(raw, price):
    frame = pl.DataFrame({"price": [raw]}, schema={"price": pl.String})
    assert frame.select(amazon.price("price")).item() == price


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20).map("am_".__add__), min_size=1))
def test_string_order_is_that_of_bytes(values):
    order = amazon._string_order(pl.Series(values))
    found = [values[place] for place in order]
    assert found == sorted(values, key=str.encode)


@given(st.lists(st.text("AB", min_size=7, max_size=10).map("am_".__add__), min_size=1))
def test_strings_that_share_their_first_bytes_are_in_order_too(values):
    found = pl.Series(values).gather(amazon._string_order(pl.Series(values)))
    assert found.to_list() == sorted(values, key=str.encode)


@given(
    st.lists(st.tuples(st.text("AB:", max_size=2), st.text("AB:1", max_size=2)), min_size=1),
    st.integers(0, 2),
)
def test_events_are_unique_and_sorted_whatever_the_ids(keys, texts):
    reviews = pl.DataFrame(
        {
            "user_id": [user for user, _ in keys],
            "item_id": [item for _, item in keys],
            "variant": "v",
            "timestamp": pl.Series([1_500_000_000_000] * len(keys)).cast(pl.Datetime("ms", "UTC")),
            "value": 1.0,
            "title": "t",
            "text": [str(place % (texts + 1)) for place in range(len(keys))],
            "helpful_vote": 0,
            "verified_purchase": True,
        }
    )
    events, duplicates = amazon.number_events(reviews)
    expected = reviews.select("user_id", "item_id", "text").unique()
    assert events.height == expected.height == reviews.height - duplicates
    assert events["event_id"].is_sorted()


def test_a_shop_written_in_the_2023_shape_comes_back(run_ingest):
    shop = sample.generate(Sample(reviews=3000, items=100, users=400, impressions=0), 3)
    write_amazon_jsonl(Path("raw"), shop, duplicates=0.05)
    out = run_ingest()
    assert out["users"]["user_id"].equals(out["events"]["user_id"].unique().sort())
    assert out["metrics"]["duplicates"] == 150
    assert out["metrics"]["events"] == 3000
    assert out["metrics"]["items"] == 100
    by_time = out["events"].sort("timestamp")
    for column in ("text", "title", "value", "timestamp", "helpful_vote", "verified_purchase"):
        assert by_time[column].equals(shop.events[column]), column
    assert sorted(out["items"]["title"]) == sorted(shop.items["title"])
    assert set(out["items"]["price"]) == set(shop.items["price"])
    assert set(out["items"]["features"].list.join("|")) == set(
        shop.items["features"].list.join("|")
    )


def test_real_2018_file_with_duplicates(run_ingest, real_data):
    out = run_ingest(folder=str(real_data / "amazon_all_beauty_2018"))
    assert out["metrics"]["rows"] == 5269
    assert out["metrics"]["duplicates"] == 1053
    assert out["metrics"]["events"] == 4216
    assert out["metrics"]["users"] == 991
    assert out["metrics"]["items"] == 85


def test_real_2014_file(run_ingest, real_data):
    out = run_ingest(folder=str(real_data / "amazon_musical_instruments_2014"))
    counted = out["metrics"]
    assert (counted["rows"], counted["users"], counted["items"]) == (10261, 1429, 900)
    assert counted["duplicates"] == 0
    assert (counted["first_time"][:4], counted["last_time"][:4]) == ("2004", "2014")
    assert run_ingest(folder=str(real_data / "amazon_musical_instruments_2014")) is not None
