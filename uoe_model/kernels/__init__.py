"""The arithmetic of experts: plain PyTorch as the definition of correct, and the one choice of what runs."""
