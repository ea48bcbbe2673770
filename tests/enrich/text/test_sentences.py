"""Leading sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.enrich.text.sentences import leading_sentences


@pytest.mark.parametrize(
    ("text", "max_chars", "summary"),
    [
        ("Short.", 20, "Short."),
        ("One two. Three four. Five six.", 20, "One two. Three four."),
        ("One two. Three four. Five six.", 19, "One two."),
        ("One two! Three?  Four.", 16, "One two! Three?"),
        ("Holds 3.5 kg of wood. More.", 22, "Holds 3.5 kg of wood."),
        ("Without any end to it at all", 14, "Without any"),
        ("Without any, end", 13, "Without any"),
        ("Unbreakable", 5, "Unbre"),
        ("  two\n lines. \t Next one.", 12, "two lines."),
        ("これは一。これは二。これは三。", 10, "これは一。これは二。"),
        ("", 5, ""),
    ],
)
def test_leading_sentences(text: str, max_chars: int, summary: str) -> None:
    assert leading_sentences(text, max_chars) == summary


@given(st.text(alphabet="ab .!?,。\n", max_size=60), st.integers(1, 40))
def test_summary_is_a_beginning_that_fits(text: str, max_chars: int) -> None:
    summary = leading_sentences(text, max_chars)
    line = " ".join(text.split())
    assert line.startswith(summary)
    assert len(summary) <= max_chars
    assert bool(summary) == bool(line)
    assert (summary == line) == (len(line) <= max_chars)
