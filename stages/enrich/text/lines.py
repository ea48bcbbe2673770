"""One line of a text."""

import polars as pl


def one_line(text: pl.Expr) -> pl.Expr:
    """Return `text` with runs of white space and control characters made one space each.

    Null where nothing is left.
    """
    # Single spaces stay as they are: nearly all there is, and each match would take time.
    line = text.str.replace_all(r"[\s\p{Cc}]{2,}|[\s\p{Cc}--\ ]", " ").str.strip_chars()
    return line.replace("", None)


def has_characters(text: pl.Expr) -> pl.Expr:
    """Return whether `one_line` leaves anything of `text`; null where `text` is."""
    return text.str.contains(r"[^\s\p{Cc}]")
