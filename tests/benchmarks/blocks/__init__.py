"""The blocks that are compared: ours, and those that a reader would compare it with."""
