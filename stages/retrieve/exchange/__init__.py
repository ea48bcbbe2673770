"""Interactions out and factors in as CSV, for a factorisation that is trained elsewhere."""
