"""Dense Hugging Face checkpoints become Unions of Experts that compute the same thing (arXiv 2503.02495, section 3)."""
