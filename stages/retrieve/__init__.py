"""Queries to candidates: retrievers, each fitted on both windows, and the blend of them."""
