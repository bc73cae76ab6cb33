"""The workers: they turn stored hits into counters, and keep the store tidy."""
