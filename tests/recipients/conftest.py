"""Fixtures of the tests of this folder."""

from tests.privacy_form import link, press  # noqa: F401 - fixtures of this folder
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
