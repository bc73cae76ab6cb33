"""The roll-up path: stored hits become counters."""
