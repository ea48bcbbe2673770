"""Who was shown an item and passed it over, told in a row an item."""

from hashlib import blake2b

import polars as pl

_DIGEST_SIZE = 5
"""Bytes of a user's hash: the sum of those of 16 million users is a number of eight."""
PASSED_OVER = {"item_id": pl.String, "users": pl.UInt32, "digest": pl.UInt64}
"""What `users_of_items` returns."""


def users_of_items(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return item_id, sorted, how many users it has and a digest of who they are.

    Small beside the pairs, and other users have another digest, but for one chance in 2^40.

    Args:
        pairs: user_id and item_id, none twice.
    """
    users = pairs["user_id"].unique()
    hashes = [
        int.from_bytes(blake2b(user.encode(), digest_size=_DIGEST_SIZE).digest()) for user in users
    ]
    hashed = pl.DataFrame({"user_id": users, "hash": pl.Series(hashes, dtype=pl.UInt64)})
    return (
        pairs.join(hashed, on="user_id")
        .group_by("item_id")
        .agg(users=pl.len(), digest=pl.col("hash").sum())
        .sort("item_id")
    )
