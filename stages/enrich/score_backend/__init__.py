"""How well a keywords backend reads: its answers against reviews labelled by hand."""
