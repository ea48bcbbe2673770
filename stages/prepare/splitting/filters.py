"""Who and what has too few events to be measured."""

import polars as pl

from stages.core.log import UserError
from stages.core.params import Split


def frequent(events: pl.DataFrame, options: Split) -> pl.DataFrame:
    """Keep the events of users and items that have enough of them in the whole log.

    Users are counted before items. With `core`, again and again until nothing more goes: the
    k-core of the bipartite graph (Seidman, 1983). What is left depends on the whole log, held-out
    parts included: figures are those of the users and items that stayed, as in the papers that
    filter so.

    Raises:
        UserError: nothing is left.
    """
    counted = (("user_id", options.min_user_events), ("item_id", options.min_item_events))
    kept, height = events, -1
    while kept.height != height:
        height = kept.height
        for key, least in counted:
            if least > 1:
                kept = kept.filter(pl.len().over(key) >= least)
        if not options.core:
            break
    if kept.is_empty() and not events.is_empty():
        raise UserError(
            f"split.min_user_events {options.min_user_events} and min_item_events "
            f"{options.min_item_events} leave none of {events.height} events; lower them"
        )
    return kept
