"""Hard negatives: documents near the query that are no answer."""

import polars as pl

from stages.core.params import Pairs
from stages.core.search import top_k
from stages.encode.encoders import CachedEncoder


def mine_negatives(
    pairs: pl.DataFrame,
    documents: pl.DataFrame,
    events: pl.DataFrame,
    encoder: CachedEncoder,
    settings: Pairs,
) -> pl.DataFrame:
    """Add hard negatives: near documents of items that the user did not choose in the window.

    A negative is less similar to the query than (1 - margin) times the positive passage, so that an
    unlabelled right answer is rarely taken for a wrong one (de Souza Moreira et al., 2024). Pairs
    that have too few are left out.
    """
    asked = encoder.encode(pairs["query"].to_list(), "query").dense
    meant = encoder.encode(pairs["positive"].to_list(), "document").dense
    known = encoder.encode_documents(documents["text"].to_list()).dense
    rows, scores = top_k(asked, known, settings.depth)
    limits = (asked * meant).sum(axis=1) * (1 - settings.margin)
    ids, texts = documents["item_id"].to_list(), documents["text"].to_list()
    chosen: dict[str, set[str]] = {}
    for user, item in events.select("user_id", "item_id").iter_rows():
        chosen.setdefault(user, set()).add(item)
    found_ids: list[list[str]] = []
    for user, near, score, limit in zip(pairs["user_id"], rows, scores, limits, strict=True):
        mine = [ids[r] for r, s in zip(near, score, strict=True) if s < limit]
        found_ids.append([i for i in mine if i not in chosen[user]][: settings.negatives])
    text_of = dict(zip(ids, texts, strict=True))
    passages = [
        [_passage(text_of[item], place) for item in mine] for place, mine in enumerate(found_ids)
    ]
    kind = pl.List(pl.String)
    return pairs.with_columns(
        pl.Series("negatives", passages, kind), pl.Series("negative_ids", found_ids, kind)
    ).filter(pl.col("negatives").list.len() == settings.negatives)


def _passage(text: str, place: int) -> str:
    lines = text.split("\n")
    return lines[place % len(lines)]
