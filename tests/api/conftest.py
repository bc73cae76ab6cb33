"""Fixtures of this folder."""

from tests.site_fixtures import (  # noqa: F401 - fixtures of this folder
    clock,
    keep_buckets,
    mail,
    opened,
    page,
    settings,
    site,
    stats,
    sweep,
    viewed,
)
