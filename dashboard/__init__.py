"""The page: asks analysis, draws, computes nothing."""
