"""Makes a data directory with one version of the code, and reads the directory with another version.

`before-i.tar.gz` was made, by `make --pack`, with the code as it was before its files were moved into
packages.
"""
