"""FAISS beside exact search: what it misses, and that what it finds is scored alike."""

import gc
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from stages.core.search import top_k
from stages.retrieve.retrievers.nearest import Kind, NearestIndex, kind_for

KINDS: tuple[Kind, ...] = get_args(Kind)


def clustered(count: int, width: int = 32, seed: int = 0) -> np.ndarray:
    """Unit vectors around a hundred centres, as those of a catalogue lie."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(100, width))
    vectors = centres[rng.integers(100, size=count)] + 0.7 * rng.normal(size=(count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


ITEMS, ASKED = clustered(6000), clustered(200, seed=1)


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    pairs = zip(found, expected, strict=True)
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs]))


@pytest.mark.parametrize(
    ("kind", "least"), [("flat", 1), ("ivf", 0.95), ("hnsw", 0.98), ("chroma", 0.98)]
)
@pytest.mark.parametrize("k", [10, 100])
def test_what_an_index_finds_beside_exact_search(kind: Kind, least: float, k: int) -> None:
    expected, exact = top_k(ASKED, ITEMS, k)
    rows, scores = NearestIndex(ITEMS, kind).search(ASKED, k)
    assert recall(rows, expected) >= least
    # Exact scores, and the order that they give.
    known = np.einsum("qkd,qd->qk", ITEMS[rows].astype(float), ASKED.astype(float))
    np.testing.assert_array_equal(scores, known.astype(np.float32))
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (scores <= exact).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_by_row_and_no_row_stands_twice(kind: Kind) -> None:
    twice = np.repeat(clustered(40), 2, axis=0)
    rows, scores = NearestIndex(twice, kind).search(ASKED[:5], 80)
    # Of two equal ones, the first is followed by the second.
    assert (rows[:, ::2] % 2 == 0).all()
    np.testing.assert_array_equal(rows[:, 1::2], rows[:, ::2] + 1)
    np.testing.assert_array_equal(scores[:, ::2], scores[:, 1::2])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_found_again(kind: Kind, tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        made = NearestIndex(ITEMS, kind)
        made.save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    for name in files if kind != "chroma" else ["vectors.npy"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    built = {"ivf": ["ivf.faiss"], "hnsw": ["hnsw.faiss"], "chroma": ["chroma"]}.get(kind, [])
    assert files == [*built, "vectors.npy"]
    rows, scores = NearestIndex.load(tmp_path / "a", kind).search(ASKED, 20)
    expected = made.search(ASKED, 20)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def test_a_collection_is_read_from_copies_that_go_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    saved = [tmp_path / name for name in ("first", "again")]
    for folder in (copies, *saved):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    made = NearestIndex(ITEMS, "chroma")
    expected = made.search(ASKED, 20)
    made.save(saved[0])
    del made
    before = contents(saved[0])
    assert len(before) > 3
    for _ in range(2):
        loaded = NearestIndex.load(saved[0], "chroma")
        rows, scores = loaded.search(ASKED, 20)
        np.testing.assert_array_equal(rows, expected[0])
        np.testing.assert_array_equal(scores, expected[1])
    loaded.save(saved[1])
    assert contents(saved[0]) == contents(saved[1]) == before
    assert list(copies.iterdir()) != []
    del loaded
    gc.collect()
    assert list(copies.iterdir()) == []


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_items_and_no_questions(kind: Kind, count: int) -> None:
    index = NearestIndex(ITEMS[:count], kind)
    rows, scores = index.search(ASKED[:2], 5)
    assert rows.shape == scores.shape == (2, count)
    assert (np.sort(rows, axis=1) == np.arange(count)).all()
    assert index.search(ASKED[:0], 5)[0].shape == (0, count)


def test_fewer_finds_than_asked_for_are_padded_at_the_end() -> None:
    """The lists that are searched hold fewer than all items."""
    rows, scores = NearestIndex(ITEMS[:2000], "ivf").search(ASKED, 2000)
    padded = np.isneginf(scores)
    assert padded.any()
    assert not padded[:, 0].any()
    assert (rows[padded] == 0).all()
    assert (np.diff(padded.astype(int), axis=1) >= 0).all()


def test_the_number_of_items_decides_what_auto_means() -> None:
    assert [kind_for(n) for n in (0, 100_000, 100_001)] == ["exact", "exact", "ivf"]
    assert [kind_for(n) for n in (200_000, 200_001, 1_000_000)] == ["ivf", "hnsw", "hnsw"]
    assert NearestIndex(ITEMS).kind == "exact"
