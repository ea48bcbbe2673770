"""Raw data in, one set of tables out, cut in time."""
