"""The trainer ``verl``: trains with the released verl, on a local Ray or on a cluster."""
