"""A generated shop in the shape that Amazon published in 2023, for tests and benchmarks."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.prepare.sources import Ingested

_IMAGES = "https://m.media-amazon.com/images/I/"


def write_amazon_jsonl(
    folder: Path,
    shop: Ingested,
    seed: int = 7,
    duplicates: float = 0.01,
    name: str = "Sample_Beauty",
) -> tuple[Path, Path]:
    """Write `<name>.jsonl` and `meta_<name>.jsonl` in the 2023 shape; return their paths.

    Args:
        folder: where to write.
        shop: what `sample.generate` gave.
        seed: of everything that the shop does not say, such as ids and variants.
        duplicates: share of reviews that stand in the file a second time, in another place.
        name: of the files.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    reviews, metadata = folder / f"{name}.jsonl", folder / f"meta_{name}.jsonl"
    parents = shop.items.select("item_id", parent_asin=_codes(rng, "B0", 8, shop.items.height))
    writers = shop.users.select("user_id", writer=_codes(rng, "A", 27, shop.users.height))
    rows = shop.events.height
    written = (
        shop.events.join(parents, on="item_id", maintain_order="left")
        .join(writers, on="user_id", maintain_order="left")
        .select(
            rating="value",
            title="title",
            text="text",
            images=_review_images(rng, rows),
            asin=pl.when(pl.Series(rng.random(rows) < 0.5))
            .then("parent_asin")
            .otherwise(pl.concat_str(pl.col("parent_asin").str.head(9), pl.lit("V"))),
            parent_asin="parent_asin",
            user_id="writer",
            timestamp=pl.col("timestamp").dt.epoch("ms"),
            helpful_vote="helpful_vote",
            verified_purchase="verified_purchase",
        )
    )
    twice = rng.integers(0, rows, int(rows * duplicates))
    order = rng.permutation(np.concatenate([np.arange(rows), twice]))
    written[order].write_ndjson(reviews)
    shop.items.join(parents, on="item_id", maintain_order="left").select(
        main_category=pl.lit("All Beauty"),
        title="title",
        average_rating=pl.lit(4.2),
        rating_number=pl.lit(17),
        features="features",
        description=pl.concat_list("description").list.drop_nulls(),
        price="price",
        images=pl.concat_list(
            pl.struct(
                thumb=pl.format(f"{_IMAGES}{{}}._SS40_.jpg", "parent_asin"),
                large=pl.format(f"{_IMAGES}{{}}.jpg", "parent_asin"),
                variant=pl.lit("MAIN"),
                hi_res=pl.format(f"{_IMAGES}{{}}._SL1500_.jpg", "parent_asin"),
            )
        ),
        videos=pl.lit([], pl.List(pl.String)),
        store="brand",
        categories="categories",
        details=pl.col("details").str.json_decode(
            pl.Struct({"Item Form": pl.String, "Scent": pl.String})
        ),
        parent_asin="parent_asin",
        bought_together=pl.lit(None, pl.String),
    ).write_ndjson(metadata)
    return reviews, metadata


def _review_images(rng: np.random.Generator, rows: int) -> pl.Series:
    """One picture in three sizes under a review in ten."""
    name = pl.Series(np.arange(rows)).cast(pl.String)
    sizes = pl.struct(
        small_image_url=pl.format(f"{_IMAGES}{{}}._SL256_.jpg", name),
        medium_image_url=pl.format(f"{_IMAGES}{{}}._SL800_.jpg", name),
        large_image_url=pl.format(f"{_IMAGES}{{}}._SL1600_.jpg", name),
        attachment_type=pl.lit("IMAGE"),
    )
    shown = pl.Series(rng.random(rows) < 0.1)
    return pl.select(pl.when(shown).then(pl.concat_list(sizes)).otherwise(pl.lit([]))).to_series()


def _codes(rng: np.random.Generator, head: str, length: int, rows: int) -> pl.Series:
    """Different random codes of letters and digits, such as Amazon's ids."""
    letters: NDArray[np.uint8] = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", np.uint8)
    drawn = letters[rng.integers(0, 32, (rows + rows // 100 + 8, length))]
    codes = pl.Series(drawn.view(f"S{length}").ravel().astype(str)).unique(maintain_order=True)
    return head + codes.head(rows)
