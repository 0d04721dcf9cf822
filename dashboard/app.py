"""`streamlit run dashboard/app.py` starts here; the only file that touches the import path."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def main() -> None:
    """Draw the page that the address names."""
    from dashboard.navigation import render_page

    render_page()


main()
