"""`python -m uoe_model.reference CHECKPOINT --ids 1 5 9`: what the released classifier answers and how it routes."""

import sys

from uoe_model.sources.reference_command import main

if __name__ == "__main__":
    sys.exit(main())
