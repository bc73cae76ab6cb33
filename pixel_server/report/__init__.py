"""The read path: counters become figures, over HTTP."""
