"""Patterns of public filter lists that keep pixels from being loaded, whatever the domain. Pure.

Ad blockers in browsers use EasyPrivacy: the general rules in `easyprivacy_general.txt` and
`easyprivacy_general_emailtrackers.txt` of https://github.com/easylist/easylist, read in November 2026. Name
servers such as Pi-hole block host names by regular expressions: the patterns without a domain in `regex.list`
of https://github.com/mmotti/pihole-regex, read in November 2026. Rules for single domains are left out.
"""

from __future__ import annotations

import re

BLOCKED_IDS = frozenset({"analytics", "beacon", "pixel", "stats", "track", "tracker", "tracking", "visit"})
"""Campaign ids that EasyPrivacy blocks when they stand in an address, such as `/p/pixel.gif`."""
_EASYPRIVACY_HOSTS = (
    *("email", "click.email", "clicks.email", "track.email", "pixel-prod", "sptracking", "trcksp"),
    *("track-pixel", "tracking-pixel", "webtrack", "webtracker", "sitestat", "spixel"),
    *("matomo", "piwik", "posthog", "fathom", "utm"),
)
"""Beginnings of host names, without the dot that follows. The rule on `email` is for `/o/`, where the pixels
of mails are."""
_EASYPRIVACY_PATHS = (
    *("/ss/o/", "/mail-tracking/", "/tracking-pixel/", "/trackimage/"),
    *("/track/event/", "/track/open/", "/track/pixel/", "/track/read/", "/track/view/"),
)
"""Parts of the path of an image."""
_PIHOLE_HOST = re.compile(
    r"(?:ad(?:s(?:ense)?|x|v(?:ert(?:s|is(?:ing|ements?))?)?)?[0-9]*[-_.]"
    r"|adse?rv(?:e(?:rs?)?|ices?)?[0-9]*[-.]|adtrack(?:er|ing)?[0-9]*[-.]|aff(?:iliat(?:es?|ion))?[-.]"
    r"|analytics?[-.]|banners?[-.]|beacons?[0-9]*[-.]|clicks?[-.]|count(?:ers?)?[0-9]*[-.]|pixels?[-.]"
    r"|stat(?:s|istics)?[0-9]*[-.]|track(?:er|ing)?[0-9]*[-.]|traff(?:ic)?[-.])"
)


def easyprivacy_reason(host: str, path: str) -> str:
    """Returns why EasyPrivacy blocks the pixel of a mail, "" if it does not.

    path: of the pixel, such as `"/px/o/abc.gif"`.
    """
    parts = [f"a host that begins with {name}." for name in _EASYPRIVACY_HOSTS if host.startswith(f"{name}.")]
    parts += [f"the path {part}" for part in _EASYPRIVACY_PATHS if part in path]
    return f"EasyPrivacy, a list of ad blockers, blocks images on {parts[0]}" if parts else ""


def pihole_reason(host: str) -> str:
    """Returns why a name server with a filter list blocks a host, "" if it does not."""
    match = _PIHOLE_HOST.match(host)
    return f"Pi-hole's list of patterns blocks a host that begins with {match[0]}" if match else ""
