"""Embed: documents and one encoder in, a vector for each document and a Chroma collection out."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
import typer

from stages.core import files, tables
from stages.core.log import get_logger, run
from stages.core.params import load_params
from stages.core.storage import atomic_folder
from stages.encode.encoders import CachedEncoder, Encoded, is_described
from stages.encode.encoders.base import Sparse

log = get_logger(__name__)


def embeddings_frame(documents: pl.DataFrame, encoded: Encoded, model_hash: str) -> pl.DataFrame:
    """Join documents' keys with their vectors; lexical weights and vectors a token where given."""
    width = encoded.dense.shape[1]
    frame = documents.select("window", "item_id").with_columns(
        vector=pl.Series(encoded.dense, dtype=pl.Array(pl.Float32, width)),
        model_hash=pl.lit(model_hash),
    )
    if encoded.sparse is not None:
        frame = frame.with_columns(sparse=weights_column(encoded.sparse))
    if encoded.multi is not None:
        lengths = [len(vectors) for vectors in encoded.multi]
        flat = np.concatenate([np.empty((0, width), np.float16), *encoded.multi])
        vectors = pl.Series(flat, dtype=pl.Array(pl.Float16, width))
        frame = frame.with_columns(multi_vector=_lists(vectors, lengths))
    return frame


def weights_column(sparse: Sparse) -> pl.Series:
    """Return lists of (token, weight), by token: made without an object for each weight."""
    lengths = [len(weights) for weights in sparse]
    entries = pl.DataFrame(
        {
            "row": np.repeat(np.arange(len(sparse)), lengths),
            "token": pl.Series(list(chain.from_iterable(sparse)), dtype=pl.String),
            "weight": np.fromiter(
                chain.from_iterable(weights.values() for weights in sparse), np.float32
            ),
        }
    ).sort("row", "token")
    return _lists(entries.select(pl.struct("token", "weight")).to_series(), lengths)


def _lists(values: pl.Series, lengths: Sequence[int]) -> pl.Series:
    """Cut values into lists of these lengths, one behind the other."""
    import pyarrow as pa

    ends = pa.array(np.append(0, np.cumsum(lengths, dtype=np.int64)))
    return pl.Series(pa.LargeListArray.from_arrays(ends, values.to_arrow()))


def main(
    encoder: Annotated[Literal["base", "tuned"], typer.Argument(help="Which encoder.")],
    params_file: Annotated[Path, typer.Option("--params")] = files.PARAMS,
    documents_file: Path = files.DOCUMENTS,
    items_file: Path = files.ITEMS,
    encoders_folder: Path = files.ENCODERS,
    embeddings_folder: Path = files.EMBEDDINGS,
    chroma_folder: Path = files.CHROMA,
    store: Path = files.VECTOR_STORE,
) -> None:
    """Encode every document once, and build the Chroma collection from window train.

    The collection holds the whole document's vector beside its first line.

    Without documents, as of a log without words, or without an encoder (`encoder.kind: none`)
    nothing is loaded and there is no collection.
    """
    params = load_params(params_file)
    documents = tables.read(documents_file, tables.DOCUMENTS)
    has_encoder = is_described(encoders_folder / encoder)
    if documents.is_empty() or not has_encoder:
        # With every column, whichever retriever reads it: no items, and not an encoder without.
        none = Encoded(np.empty((0, 0), np.float32), [], [])
        frame = embeddings_frame(documents.clear(), none, "")
        tables.write(frame, embeddings_folder / f"{encoder}.parquet", tables.EMBEDDINGS)
        with atomic_folder(chroma_folder / encoder):
            why = "" if has_encoder else ", encoder.kind is none"
            log.info("%s: %d documents%s; nothing to encode", encoder, documents.height, why)
        return
    titles = tables.read(items_file, tables.ITEMS, columns=["item_id", "title"])
    opened = CachedEncoder(encoders_folder / encoder, store)
    encoded = opened.encode_documents(documents["text"].to_list(), multi=True)
    frame = embeddings_frame(documents, encoded, opened.model.model_hash)
    tables.write(frame, embeddings_folder / f"{encoder}.parquet", tables.EMBEDDINGS)

    from stages.encode.encoders import chroma

    # Chroma indexes every word that it is given: a line an item, not the reviews that it quotes.
    own = pl.col("text").str.split("\n").list.first()
    served = documents.with_columns(frame["vector"], own).filter(window="train")
    served = served.join(titles, on="item_id", how="left", maintain_order="left")
    collection = params.embed.collection + ("" if encoder == "tuned" else "_base")
    chroma.write_folder(chroma_folder / encoder, collection, served)
    if params.embed.chroma_url:
        chroma.write_server(params.embed.chroma_url, collection, served)
    log.info(
        "%s: %d documents, collection %s of %d", encoder, frame.height, collection, served.height
    )


if __name__ == "__main__":
    run(main)
