"""The pipeline, one sub-package a room, in the order in which data flows."""

import stages.core  # noqa: F401 - before all else, since it decides how Polars works
