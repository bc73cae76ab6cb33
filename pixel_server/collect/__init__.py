"""The hot path: a request for a pixel becomes a stored hit."""
