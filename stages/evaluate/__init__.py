"""Measured, audited, shown: what the candidates and scores are worth, and how sure that is."""
