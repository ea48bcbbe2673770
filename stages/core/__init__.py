"""What the rooms share: tables, parameters, storage, metrics, search, determinism, logging."""

import gc
import os

# Stages make and drop frames of hundreds of megabytes. Left to itself, Polars' allocator gives
# their pages back at once and spreads what it keeps over many arenas, and a tenth of the time of
# reading and writing tables went on getting pages from the system again. It reads this once, when
# it is loaded; what stands there before may be what Polars itself left to a child process.
os.environ["_RJEM_MALLOC_CONF"] = (
    f"narenas:{max((os.cpu_count() or 1) // 2, 1)},oversize_threshold:0,dirty_decay_ms:5000"
)

import polars as pl

# The streaming engine returns joins and float sums in an order that differs from run to run, so the
# same input would give another parquet hash and re-run everything behind it.
pl.Config.set_engine_affinity("in-memory")

# Modules live to the end, so no collection of garbage need walk through Polars': a seventh of the
# time that a stage takes to start.
gc.freeze()
