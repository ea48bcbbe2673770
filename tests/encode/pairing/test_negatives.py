"""Hard negatives: near, but below the margin, and nothing that the user chose."""

from pathlib import Path

import polars as pl
import pytest

from stages.core.params import Pairs
from stages.encode.encoders import CachedEncoder
from stages.encode.pairing.negatives import mine_negatives
from tests.encode.tiny_models import settings

DOCUMENTS = {
    "i0": "guitar wood",
    "i1": "guitar wood loud",
    "i2": "guitar metal",
    "i3": "drum",
    "i4": "guitar wood",
}


@pytest.fixture
def encoder(static: Path, tmp_path: Path) -> CachedEncoder:
    return CachedEncoder(settings(static), tmp_path / "vectors.sqlite")


def mined(encoder: CachedEncoder, chosen: dict[str, list[str]], **options: float) -> pl.DataFrame:
    """Negatives of one query of user u, `guitar wood`, whose positive is `guitar wood loud`."""
    pairs = pl.DataFrame(
        {"user_id": ["u"], "query": ["guitar wood"], "positive": [DOCUMENTS["i1"]]}
    )
    documents = pl.DataFrame({"item_id": list(DOCUMENTS), "text": list(DOCUMENTS.values())})
    events = pl.DataFrame(
        [(user, item) for user, items in chosen.items() for item in items],
        ["user_id", "item_id"],
        orient="row",
    )
    params = Pairs.model_validate({"format": "triplet", "depth": 5, **options})
    return mine_negatives(pairs, documents, events, encoder, params)


def test_near_but_below_the_margin(encoder: CachedEncoder) -> None:
    # Similarities to the query: i0 and i4 1, i1 0.816, i2 0.5, i3 0; the positive's is 0.816.
    found = mined(encoder, {"u": ["i1"]}, margin=0.05)
    assert found["negative_ids"].to_list() == [["i2"]]
    assert found["negatives"].to_list() == [[DOCUMENTS["i2"]]]
    strict = mined(encoder, {"u": ["i1"]}, margin=0.4)
    assert strict["negative_ids"].to_list() == [["i3"]]


def test_never_an_item_that_the_user_chose(encoder: CachedEncoder) -> None:
    found = mined(encoder, {"u": ["i1", "i2"], "other": ["i3"]})
    assert found["negative_ids"].to_list() == [["i3"]]
    assert mined(encoder, {"u": ["i1", "i2", "i3"]}).is_empty()


def test_as_many_as_asked_for_or_no_pair(encoder: CachedEncoder) -> None:
    assert mined(encoder, {"u": ["i1"]}, negatives=2)["negative_ids"].to_list() == [["i2", "i3"]]
    assert mined(encoder, {"u": ["i1"]}, negatives=3).is_empty()
    assert mined(encoder, {"u": ["i1"]}, depth=3).is_empty()


def test_lines_of_negatives_come_in_turn_over_the_pairs(encoder: CachedEncoder) -> None:
    """An encoder reads documents line by line, so training does too."""
    pairs = pl.DataFrame(
        {"user_id": ["u"] * 3, "query": ["guitar"] * 3, "positive": ["guitar"] * 3}
    )
    documents = pl.DataFrame({"item_id": ["a"], "text": ["guitar wood\nguitar metal"]})
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["mine"]})
    found = mine_negatives(pairs, documents, events, encoder, Pairs(format="triplet"))
    assert found["negatives"].to_list() == [["guitar wood"], ["guitar metal"], ["guitar wood"]]
