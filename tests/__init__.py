"""Tests, chaos runs and benchmarks. No server that they start asks the internet for lists of networks."""

import os

os.environ.setdefault("PIXEL_NETWORKS_REFRESH", "off")
