"""Summaries of product descriptions without a language model: the sentences that come first."""

import re

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")


def leading_sentences(text: str, max_chars: int) -> str:
    """Return the first sentences of `text` that together fit into `max_chars`, on one line.

    Sellers put what matters first, so the lead is the summary (the lead baseline of Nenkova and
    McKeown, 2011). A first sentence that is too long is cut at a word, a first word that is too
    long anywhere.
    """
    text = " ".join(text.split())
    if len(text) <= max_chars:
        return text
    end = 0
    for stop in _SENTENCE_END.finditer(text):
        if stop.start() > max_chars:
            break
        end = stop.start()
    if end:
        return text[:end]
    cut = text[: max_chars + 1].rpartition(" ")[0]
    return cut.rstrip(" ,;:-–") or text[:max_chars]
