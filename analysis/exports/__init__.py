"""Files of figures and runs: drawings at a physical size as SVG, PDF and PNG, tables, LaTeX, and the run bundle."""
