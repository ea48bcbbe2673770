"""What every stage stands on: tables, parameters, storage, determinism, logging."""

import polars as pl

# The streaming engine returns joins and float sums in an order that differs from run to run, so the
# same input would give another parquet hash and re-run everything behind it.
pl.Config.set_engine_affinity("in-memory")
