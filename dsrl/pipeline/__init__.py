"""The road from a task to a trained model (paper, Algorithm 1)."""
