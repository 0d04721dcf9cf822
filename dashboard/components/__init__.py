"""Our own page elements, drawn in the browser: the token map and the picture map."""
