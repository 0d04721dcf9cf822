"""Parts of pages: inputs, charts, numbers, tables."""
