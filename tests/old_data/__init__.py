"""A data directory that one version of the code makes, and another reads.

`before-i.tar.gz` was made (`make --pack`) by the code as it was before its files were moved into packages.
"""
