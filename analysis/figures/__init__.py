"""Figures: a documented table in, a plotly figure (or the data of a map) out; nothing is computed but the layout."""
