"""Makes a data directory with one version of the code, and reads the directory with another version.

Each file `VERSION.tar.gz` was made by `make --pack`. `0.1.0.tar.gz` is of the code before its files were
moved into packages.
"""
