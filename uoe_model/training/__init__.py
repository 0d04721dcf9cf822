"""The training loops that made the bundled checkpoints, and the evaluation that prints their model cards."""
