"""Charts on paper: the figures of our builders laid out anew at their physical size, without a browser."""
