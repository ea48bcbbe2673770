"""The stage pictures: every readable picture has a vector, every other one is counted and named."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from stages.core import tables
from stages.core.log import UserError
from stages.core.store import Store
from stages.encode import pictures
from stages.encode.imaging import encode_files
from stages.encode.imaging.colour_shape import ColourShapeEncoder
from tests.encode.imaging.drawing import content, noise, shape, written

DRAWN = {f"i{n}.png": noise(n) for n in range(5)}


def prepare(folder: Path, images: dict[str, str | None], **options: Any) -> None:
    blank: dict[str, Any] = dict.fromkeys(tables.ITEMS.columns) | {"categories": [], "features": []}
    rows = [blank | {"item_id": item, "image": image} for item, image in images.items()]
    items = pl.DataFrame(rows, tables.ITEMS.columns)
    tables.write(items, folder / "items.parquet", tables.ITEMS)
    chosen = {"pictures": {"encoder": "colour_shape", **options}}
    (folder / "params.yaml").write_text(yaml.safe_dump(chosen))


def run(folder: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    pictures.main(
        folder / "params.yaml",
        folder / "items.parquet",
        folder / "drawn",
        folder / "pictures.parquet",
        folder / "pictures.json",
        folder / "vectors.sqlite",
    )
    found = tables.read(folder / "pictures.parquet", tables.PICTURE_VECTORS)
    return found, json.loads((folder / "pictures.json").read_text())


def entries(folder: Path) -> int:
    with Store(folder / "vectors.sqlite") as store:
        return len(store)


def test_pictures_are_encoded_wherever_they_lie(tmp_path: Path) -> None:
    written(tmp_path / "drawn", {"a.png": noise(1), "010/b.png": noise(2)})
    (elsewhere,) = written(tmp_path / "elsewhere", {"c.png": noise(3)})
    prepare(tmp_path, {"i1": "a.png", "i2": "010/b.png", "i3": str(elsewhere), "i4": None})
    found, counted = run(tmp_path)
    assert found["item_id"].to_list() == ["i1", "i2", "i3"]
    expected = ColourShapeEncoder().encode([noise(n) for n in (1, 2, 3)])
    np.testing.assert_allclose(found["vector"].to_numpy(), expected, atol=1e-6)
    assert found["model_hash"].unique().to_list() == [ColourShapeEncoder.model_hash]
    assert counted == {
        "encoder": "colour_shape",
        "items": 4,
        "without": 1,
        "encoded": 3,
        "skipped": {"missing": 0, "address": 0, "broken": 0},
        "examples": {},
    }


def test_what_cannot_be_read_is_counted_and_named(tmp_path: Path) -> None:
    whole, cut = written(tmp_path / "drawn", {"whole.png": noise(1), "cut.png": noise(2)})
    cut.write_bytes(cut.read_bytes()[:400])
    (tmp_path / "drawn" / "folder.png").mkdir()
    images = {
        "i1": "whole.png",
        "i2": "cut.png",
        "i3": "gone.png",
        "i4": "folder.png",
        "i5": "https://example.org/whole.png",
        "i6": "x" * 5000,
        "i7": "",
        "i8": None,
    }
    prepare(tmp_path, images)
    found, counted = run(tmp_path)
    assert found["item_id"].to_list() == ["i1"]
    assert counted["skipped"] == {"missing": 4, "address": 1, "broken": 1}
    assert counted["without"] == 1
    named = counted["examples"]
    assert named["missing"] == ["gone.png", "folder.png", "x" * 5000, ""]
    assert named["address"] == ["https://example.org/whole.png"]
    assert named["broken"] == ["cut.png"]
    assert whole.exists()


class Spent:
    """The same model by name and size, which can encode no more."""

    model_hash = ColourShapeEncoder.model_hash
    dimension = ColourShapeEncoder.dimension
    side = ColourShapeEncoder.side

    def __init__(self, left: int) -> None:
        self.left = left

    def encode(self, drawn: Sequence[Image.Image]) -> np.ndarray:
        if self.left < len(drawn):
            raise KeyboardInterrupt
        self.left -= len(drawn)
        return ColourShapeEncoder().encode(drawn)


def test_a_run_that_was_killed_goes_on_from_there(tmp_path: Path) -> None:
    paths, store = written(tmp_path, DRAWN), tmp_path / "vectors.sqlite"
    with pytest.raises(KeyboardInterrupt):
        encode_files(paths, Spent(4), store, 2)
    assert entries(tmp_path) == 4
    vectors, good = encode_files(paths, Spent(1), store, 2)
    assert good.all()
    assert vectors.tobytes() == encode_files(paths, Spent(0), store, 3)[0].tobytes()
    fresh = encode_files(paths, ColourShapeEncoder(), tmp_path / "other.sqlite", 2)[0]
    assert vectors.tobytes() == fresh.tobytes()


def test_equal_files_cost_one_vector_and_a_changed_one_another(tmp_path: Path) -> None:
    paths = written(tmp_path, DRAWN | {"again.png": DRAWN["i0.png"]})
    vectors, _ = encode_files(paths, ColourShapeEncoder(), tmp_path / "vectors.sqlite", 4)
    assert entries(tmp_path) == 5
    assert (vectors[0] == vectors[-1]).all()
    paths[0].write_bytes(content(shape("teal")))
    changed, _ = encode_files(paths, Spent(1), tmp_path / "vectors.sqlite", 4)
    assert entries(tmp_path) == 6
    assert [n for n in range(6) if (changed[n] != vectors[n]).any()] == [0]


def test_a_file_that_went_away_meanwhile_is_broken(tmp_path: Path) -> None:
    paths = [*written(tmp_path, DRAWN), tmp_path / "gone.png"]
    vectors, good = encode_files(paths, ColourShapeEncoder(), tmp_path / "vectors.sqlite", 64)
    assert good.tolist() == [True] * 5 + [False]
    assert not vectors[-1].any()


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    written(tmp_path / "drawn", DRAWN)
    prepare(tmp_path, {name[:2]: name for name in DRAWN}, batch_size=2)
    run(tmp_path)
    first = (tmp_path / "pictures.parquet").read_bytes()
    run(tmp_path)  # from the store
    assert (tmp_path / "pictures.parquet").read_bytes() == first
    (tmp_path / "vectors.sqlite").unlink()
    run(tmp_path)  # from nothing
    assert (tmp_path / "pictures.parquet").read_bytes() == first


def test_without_an_encoder_the_table_is_empty_and_no_picture_is_read(tmp_path: Path) -> None:
    prepare(tmp_path, {"i1": "gone.png", "i2": None}, encoder="none")
    found, counted = run(tmp_path)
    assert found.is_empty()
    assert (counted["encoder"], counted["items"], counted["encoded"]) == ("none", 2, 0)
    assert not (tmp_path / "vectors.sqlite").exists()


def test_a_catalogue_without_pictures_is_fine(tmp_path: Path) -> None:
    prepare(tmp_path, {"i1": None})
    found, counted = run(tmp_path)
    assert found.schema["vector"] == pl.Array(pl.Float32, ColourShapeEncoder.dimension)
    assert (found.height, counted["without"]) == (0, 1)


def test_clip_through_the_stage(clip: Path, tmp_path: Path) -> None:
    written(tmp_path / "drawn", DRAWN)
    options = {"encoder": "clip", "model": str(clip), "precision": "fp32", "batch_size": 3}
    prepare(tmp_path, {name[:2]: name for name in DRAWN}, **options)
    found, _ = run(tmp_path)
    assert found.height == 5
    np.testing.assert_allclose(np.linalg.norm(found["vector"].to_numpy(), axis=1), 1, atol=1e-5)


def test_a_missing_model_leaves_no_table(tmp_path: Path) -> None:
    written(tmp_path / "drawn", DRAWN)
    prepare(tmp_path, {"i0": "i0.png"}, encoder="clip", model=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"pictures\.model .* there is no such folder"):
        run(tmp_path)
    assert not (tmp_path / "pictures.parquet").exists()
