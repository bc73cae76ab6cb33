"""A data directory that one version of the code makes, and another reads."""
