"""The store: what was put is there, whoever put it and however its process ended."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.log import UserError
from stages.core.store import Store, content_hash

WRITER = """
import sys, time
from pathlib import Path
from stages.core.store import Store
with Store(Path(sys.argv[1])) as store:
    for n in range(int(sys.argv[3])):
        store.put_many({f"{sys.argv[2]}-{n}": str(n).encode()})
        print(n, flush=True)
"""


def writer(path: Path, name: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_put_is_got_again_by_another_store(tmp_path: Path) -> None:
    with Store(tmp_path / "deep" / "s.sqlite") as store:
        store.put_many({"a": b"1", "b": b"\x00\xff"})
        store.put_many({"a": b"2"})
    with Store(tmp_path / "deep" / "s.sqlite") as store:
        assert store.get_many(["a", "b", "c", "a"]) == {"a": b"2", "b": b"\x00\xff"}
        assert len(store) == 2


def test_more_keys_than_sqlite_takes_variables(tmp_path: Path) -> None:
    entries = {f"k{n}": str(n).encode() for n in range(2345)}
    with Store(tmp_path / "s") as store:
        store.put_many(entries)
        assert store.get_many(entries) == entries
        assert store.get_many([]) == {}


def test_deleted_is_gone_and_absent_is_no_error(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put_many({"a": b"1", "b": b"2"})
        store.delete_many(["a", "nobody"])
        assert store.get_many(["a", "b"]) == {"b": b"2"}


def test_failed_put_keeps_nothing_of_its_batch(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        with pytest.raises(Exception, match="NOT NULL"):
            store.put_many({"a": b"1", "b": None})  # type: ignore[dict-item]
        assert len(store) == 0


def test_kill_loses_nothing_that_was_put(tmp_path: Path) -> None:
    process = writer(tmp_path / "s", "a", 10**9)
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    seen += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    process.wait()
    with Store(tmp_path / "s") as store:
        assert set(store.get_many(f"a-{n}" for n in seen)) == {f"a-{n}" for n in seen}


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    processes = [writer(tmp_path / "s", name, 100) for name in "abc"]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with Store(tmp_path / "s") as store:
        assert len(store) == 300


def test_several_threads_share_one_store(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.put_many({f"k{n}": b"x", f"l{n}": b"y"}), range(100)))
        found = list(pool.map(lambda n: store.get_many([f"k{n}", f"l{n}"]), range(100)))
    assert found == [{f"k{n}": b"x", f"l{n}": b"y"} for n in range(100)]


def test_what_is_no_store_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"this is no database, but long enough to have a header of one" * 50)
    with pytest.raises(UserError, match=r"answers\.sqlite.*delete or move it"):
        Store(path)
    with pytest.raises(UserError, match="make its folder writable"):
        Store(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_hashes_are_equal_exactly_when_the_json_is(left: object, right: object) -> None:
    def tagged(value: object) -> str:
        if isinstance(value, dict):
            return f"dict {sorted((key, tagged(inner)) for key, inner in value.items())}"
        if isinstance(value, list):
            return f"list {[tagged(inner) for inner in value]}"
        return f"{type(value).__name__} {value!r}"

    assert (content_hash(left) == content_hash(right)) == (tagged(left) == tagged(right))


def test_hash_is_that_of_canonical_json() -> None:
    assert content_hash("m", {"b": 1, "a": "é"}) == content_hash("m", {"a": "é", "b": 1})
    assert content_hash("a", "b") != content_hash("ab")
    assert content_hash("a", "b") != content_hash(["a", "b"])
    assert content_hash("m", {"a": [1, None]}) == "1827b441e60b9d8fa45e1588fd97b901"
