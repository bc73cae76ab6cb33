"""Makes a data directory with one version of the code, and reads the directory with another version.

Each file `VERSION.tar.gz` is of one version: a data directory, a backup of it, some answers and the formats
of that version. `make --pack` has made it. `0.1.0.tar.gz` is of the code before its files were moved into
packages, and has neither backup nor formats. The files are kept for good.

When a stored format changes, a test fails until there is a file of the new version:

    python -m tests.old_data.make /tmp/out --few --pack tests/old_data/1.1.0.tar.gz
"""
