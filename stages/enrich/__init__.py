"""Enrich: what reviews and descriptions say, put into one text an item and one text a query."""
