"""Impressions that a window knows."""

from datetime import UTC, datetime, timedelta

import polars as pl

from stages.core import tables
from stages.core.parts import Parts
from stages.core.windows import end_of, impressions_of

START = datetime(2023, 1, 1, tzinfo=UTC)


def events(*rows: tuple[str, str, float, str]) -> pl.DataFrame:
    """(user, item, day, split)."""
    return pl.DataFrame(
        [(user, item, START + timedelta(days=day), split) for user, item, day, split in rows],
        {
            "user_id": pl.String,
            "item_id": pl.String,
            "timestamp": tables.TIME,
            "split": pl.Enum(tables.PARTS),
        },
        orient="row",
    )


def shown(*rows: tuple[str | None, str, float, int | None]) -> pl.DataFrame:
    """(user, item, day, click)."""
    return pl.DataFrame(
        [(user, item, START + timedelta(days=day), click) for user, item, day, click in rows],
        {
            "user_id": pl.String,
            "item_id": pl.String,
            "timestamp": tables.TIME,
            "click": pl.Int8,
        },
        orient="row",
    )


def known(
    given: pl.DataFrame, log: pl.DataFrame, window: str, in_time: bool
) -> list[tuple[str, str]]:
    return impressions_of(given, log, window, in_time).select("user_id", "item_id").rows()


def test_by_time_a_window_knows_what_was_before_its_end() -> None:
    log = events(("u", "a", 1, "fit"), ("v", "b", 5, "rank"), ("u", "c", 9, "test"))
    given = shown(("u", "a", 0.5, 1), ("v", "x", 4, None), ("u", "c", 8.5, 1), ("w", "a", 5, 0))
    assert known(given, log, "fit", True) == [("u", "a")]
    assert known(given, log, "train", True) == [("u", "a"), ("v", "x"), ("w", "a")]


def test_a_click_on_what_is_held_out_is_unknown_where_others_go_on() -> None:
    """u's last event is held out on day 2; v goes on until day 9, which is the window's end."""
    log = events(
        ("u", "a", 1, "fit"), ("u", "t", 2, "test"), ("v", "b", 8, "fit"), ("v", "a", 9, "fit")
    )
    given = shown(
        ("u", "a", 0.9, 1),
        ("u", "t", 2 - 1e-7, 1),  # the event itself, which was moved by some milliseconds
        ("u", "t", 1.5, 1),  # clicked before it was bought: nothing to hide
        ("u", "z", 3, 0),  # after it
        ("v", "t", 8, 1),
        (None, "t", 7, 1),
    )
    assert known(given, log, "train", False) == [("u", "a"), ("u", "t"), ("v", "t"), (None, "t")]
    assert impressions_of(given, log, "train", False)["click"].to_list() == [1, 1, 1, 1]


def test_clicks_that_are_held_out_stay_so_where_all_was_tied() -> None:
    """Without times an order is drawn, milliseconds apart, the same parts at the same moments."""
    ms = 1 / tables.DAY_MS
    parts = ("fit", "rank", "valid", "test")
    log = events(*((user, part, n * ms, part) for user in "uv" for n, part in enumerate(parts)))
    given = shown(*((user, part, 0, 1) for user in "uv" for part in parts))
    assert known(given, log, "fit", False) == [("u", "fit"), ("v", "fit")]
    assert {item for _, item in known(given, log, "train", False)} == {"fit", "rank"}


SHOPS = Parts(
    pl.DataFrame({"item_id": ["a", "b", "c", "z"], "part": ["early", "early", "late", "empty"]}),
    pl.DataFrame({"user_id": ["u", "w"], "part": ["early", "late"]}),
)
YEARS = events(
    ("u", "a", 1, "fit"),
    ("u", "b", 5, "rank"),
    ("u", "a", 9, "test"),
    ("w", "c", 900, "fit"),
    ("w", "c", 950, "rank"),
    ("w", "c", 990, "test"),
)


def test_of_shops_side_by_side_each_has_its_end() -> None:
    rows = pl.DataFrame({"item_id": ["c", "b", "z", "a", "unheard of"]})
    for window, early, late in (("fit", 1, 900), ("train", 5, 950)):
        ends = rows.select(end=end_of(rows, YEARS, window, SHOPS))["end"]
        first, last = (START + timedelta(days=day) for day in (early, late))
        assert ends.to_list() == [last, first, None, first, None]
        whole = rows.with_columns(end=end_of(rows, YEARS, window))["end"]
        assert whole.to_list() == [last] * 5


def test_of_shops_side_by_side_nothing_shown_is_known_past_their_own_end() -> None:
    given = shown(("u", "b", 1, 1), ("u", "b", 6, 1), ("w", "c", 6, 0), ("w", "c", 951, 1))
    found = impressions_of(given, YEARS, "train", True, SHOPS)
    assert found.equals(given[[0, 2]])
    assert impressions_of(given, YEARS, "train", True).height == 3
