"""The pipeline, one sub-package a room, in the order in which data flows."""

import gc

import polars as pl

# The streaming engine returns joins and float sums in an order that differs from run to run, so the
# same input would give another parquet hash and re-run everything behind it.
pl.Config.set_engine_affinity("in-memory")

# Modules live to the end, so no collection of garbage need walk through Polars': a seventh of the
# time that a stage takes to start.
gc.freeze()
