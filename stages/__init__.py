"""The pipeline, one sub-package a room, in the order in which data flows."""
