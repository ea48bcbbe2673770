"""The store: what was put is there, whoever put it and however its process ended."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.log import UserError
from stages.core.store import Store, content_hash

DAY = 86_400
NOW = 1_800_000_000

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


def test_latest_values_of_a_kind(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put_many({"a": b"1", "b": b"2", "c": b"3"}, "answers")
        store.put_many({"d": b"4"}, "vectors")
        assert store.latest("answers", 2) == [b"3", b"2"]
        assert store.latest("answers", 9) == [b"3", b"2", b"1"]
        assert store.latest("none", 9) == []


def test_family_is_what_has_its_name_before_the_colon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "s") as store:
        on_day(monkeypatch, 0)
        store.put_many({"ab:2": b"1", "ab:1": b"2", "ab": b"3", "abc:1": b"4", "a:b": b"5"})
        on_day(monkeypatch, 5)
        assert list(store.get_family("ab").items()) == [("ab:2", b"1"), ("ab:1", b"2")]
        assert store.get_family("b") == {}
        assert store.prune(unused_days=4) == 3
        assert set(store.get_family("ab")) == {"ab:1", "ab:2"}


def test_entries_take_the_place_of_others(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put_many({"a": b"1", "b": b"2", "c": b"3"})
        store.put_many({"d": b"4", "b": b"5"}, "letters", instead_of=["a", "b", "none"])
        assert store.get_many("abcd") == {"b": b"5", "c": b"3", "d": b"4"}
        with pytest.raises(Exception, match="NOT NULL"):
            store.put_many({"e": None}, instead_of=["c"])  # type: ignore[dict-item]
        assert store.get_many("c") == {"c": b"3"}


def test_more_keys_than_sqlite_takes_variables(tmp_path: Path) -> None:
    entries = {f"k{n}": str(n).encode() for n in range(2345)}
    with Store(tmp_path / "s") as store:
        store.put_many(entries)
        assert store.get_many(entries) == entries
        assert store.get_many([]) == {}


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


SHARER = """
import sys
from pathlib import Path
from stages.core.store import Store
sys.stdin.readline()
for n in range(30):
    with Store(Path(sys.argv[1])) as store:
        found = store.get_many(f"k{m}" for m in range(n + 1))
        assert all(value == key.encode() * 700 for key, value in found.items())
        store.put_many({f"k{m}": f"k{m}".encode() * 700 for m in (n, n + 1)})
        assert {f"k{m}" for m in range(n + 2)} <= store.get_many(f"k{m}" for m in range(99)).keys()
"""


@pytest.mark.parametrize("layout", ["none", "earlier"])
def test_several_processes_open_read_and_write_one_store(tmp_path: Path, layout: str) -> None:
    if layout == "earlier":
        earlier(tmp_path / "s", {"k0": b"k0" * 700})
    command = [sys.executable, "-c", SHARER, str(tmp_path / "s")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(6)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    assert [process.wait() for process in processes] == [0] * 6
    with Store(tmp_path / "s") as store:
        assert len(store) == 31


def earlier(path: Path, entries: dict[str, bytes]) -> None:
    """A store as it was before it knew kinds and days."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
        )
        connection.executemany("INSERT INTO entries VALUES (?, ?)", entries.items())
    connection.close()


def test_an_earlier_layout_is_brought_to_the_present_one(tmp_path: Path) -> None:
    entries = {f"k{n}": bytes([n]) * 2000 for n in range(100)}
    earlier(tmp_path / "s", entries)
    for _ in range(2):
        with Store(tmp_path / "s") as store:
            assert store.get_many(entries) == entries
            assert store.prune(unused_days=0) == 0
            assert [(size.kind, size.entries) for size in store.sizes()] == [("", 100)]


def test_a_later_layout_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="later version"):
        Store(tmp_path / "s")


def on_day(monkeypatch: pytest.MonkeyPatch, day: int) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW + day * DAY)


def test_what_nobody_used_is_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "s") as store:
        on_day(monkeypatch, 0)
        store.put_many({"read": b"1", "idle": b"2", "again": b"3"})
        on_day(monkeypatch, 5)
        store.get_many(["read"])
        store.put_many({"again": b"4"})
        on_day(monkeypatch, 10)
        assert store.prune(unused_days=10) == 0
        assert store.prune(unused_days=9) == 1
        assert store.prune() == 0
    with Store(tmp_path / "s") as store:
        assert store.get_many(["read", "idle", "again"]) == {"read": b"1", "again": b"4"}


def test_the_longest_unused_leave_until_the_rest_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "s") as store:
        for day, name in enumerate("abcd"):
            on_day(monkeypatch, day)
            store.put_many({name: b"x" * 99_999}, kind="letters")
        on_day(monkeypatch, 9)
        store.get_many(["a"])
        assert store.prune(max_bytes=400_000) == 0
        assert store.prune(max_bytes=299_999) == 2
        assert set(store.get_many("abcd")) == {"a", "d"}
        assert 200_000 < (tmp_path / "s").stat().st_size < 250_000
        assert [(size.kind, size.entries, size.bytes) for size in store.sizes()] == [
            ("letters", 2, 200_000)
        ]
        assert store.prune(max_bytes=0) == 2
        assert store.sizes() == []


def test_merging_twice_is_merging_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_day(monkeypatch, 0)
    with Store(tmp_path / "here") as store:
        store.put_many({"a": b"mine", "b": b"1"}, kind="x")
    on_day(monkeypatch, 3)
    with Store(tmp_path / "there") as store:
        store.put_many({"a": b"theirs", "c": b"2"}, kind="y")
        store.export(tmp_path / "moved")
        with pytest.raises(UserError, match="already"):
            store.export(tmp_path / "moved")
    with Store(tmp_path / "here") as store:
        assert [store.merge(tmp_path / "moved") for _ in range(2)] == [1, 0]
        assert store.get_many("b") == {"b": b"1"}
        sizes = store.sizes()
        on_day(monkeypatch, 4)
        assert [(s.kind, s.entries) for s in sizes] == [("x", 2), ("y", 1)]
        assert store.get_many("abc") == {"a": b"mine", "b": b"1", "c": b"2"}
        with pytest.raises(UserError, match="no such store"):
            store.merge(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    earlier(tmp_path / "old", {"d": b"4"})
    with Store(tmp_path / "here") as store:
        assert store.merge(tmp_path / "old") == 1
        assert len(store) == 4


def test_several_threads_share_one_store(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.put_many({f"k{n}": b"x", f"l{n}": b"y"}), range(100)))
        found = list(pool.map(lambda n: store.get_many([f"k{n}", f"l{n}"]), range(100)))
    assert found == [{f"k{n}": b"x", f"l{n}": b"y"} for n in range(100)]


HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def held(path: Path, seconds: float) -> "subprocess.Popen[str]":
    """Another process that writes to the store for so long."""
    command = [sys.executable, "-c", HOLDER, str(path), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_writer_outwaits_another_by_many_tries(tmp_path: Path) -> None:
    with Store(tmp_path / "s", patience_s=40) as store:
        store.put_many({"old": b"1"})
        holder = held(tmp_path / "s", 5)
        store.put_many({"new": b"2"})
        assert holder.wait() == 0
        assert store.get_many(["old", "new"]) == {"old": b"1", "new": b"2"}


def test_a_store_that_stays_busy_is_said_in_a_sentence(tmp_path: Path) -> None:
    with Store(tmp_path / "here") as other:
        other.put_many({"c": b"3"})
    with Store(tmp_path / "s", patience_s=0.2) as store:
        store.put_many({"a": b"1"})
        holder = held(tmp_path / "s", 600)
        try:
            said = r"/s: another process has held .* 0\.2 s; wait"
            for write in (
                lambda: store.put_many({"b": b"2"}),
                lambda: store.prune(max_bytes=0),
                lambda: store.merge(tmp_path / "here"),
            ):
                with pytest.raises(UserError, match=said):
                    write()
            assert store.get_many(["a", "b"]) == {"a": b"1"}
        finally:
            holder.kill()
            holder.wait()
        assert store.merge(tmp_path / "here") == 1


def test_a_full_disk_is_said_in_a_sentence(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put_many({"a": b"1"})
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(UserError, match=r"/s cannot be written to \(.* full\); make room"):
            store.put_many({"b": b"2" * 100_000})
        assert store.get_many(["a", "b"]) == {"a": b"1"}


def test_what_is_no_store_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"this is no database, but long enough to have a header of one" * 50)
    with pytest.raises(UserError, match=r"answers\.sqlite.*delete or move it"):
        Store(path)
    with pytest.raises(UserError, match="make its folder writable"):
        Store(tmp_path)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.get_many([f"k:{n}" for n in range(300)]),
        lambda store: store.get_family("k"),
        lambda store: store.put_many({f"k:{n}": b"y" for n in range(300)}),
        lambda store: store.sizes(),
        lambda store: store.latest("", 300),
        lambda store: store.prune(unused_days=3),
    ],
)
def test_a_store_damaged_in_the_middle_is_said_in_a_sentence(
    use: Callable[[Store], object], tmp_path: Path
) -> None:
    path = tmp_path / "answers.sqlite"
    with Store(path) as store:
        store.put_many({f"k:{n}": bytes(3000) for n in range(300)})
    whole = path.read_bytes()
    path.write_bytes(whole[: 3 * 4096].ljust(len(whole), b"Z"))
    with Store(path) as store, pytest.raises(UserError, match=r"answers\.sqlite.*delete or move"):
        use(store)


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
