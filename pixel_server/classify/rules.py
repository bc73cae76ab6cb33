"""The verdict on a hit: a person, a proxy for one, a prefetch, a scanner, the sender's own, or unknown.

Pure. Rules are data (`data/rules.toml`, and the operator's PIXEL_RULES on top); a verdict is a label with the
id of the rule that said so, and never deletes a hit. What no rule matches is `unknown`, by the rule `none`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import msgspec

from pixel_server.classify.networks import shipped
from pixel_server.classify.user_agents import Client, client, facets
from pixel_server.counters import burst_window, labels
from pixel_server.counters.labels import UNKNOWN
from pixel_server.verdicts import ELIGIBLE, Class

NONE = "none"
CLOCKS = 60
"""Seconds that the sender's clock may be ahead of ours."""
REMEMBERED = 50_000
"""Verdicts kept, by what they follow from."""


class RulesError(ValueError):
    """Rules that cannot be used; the message is one line that names the file and the line."""


class Verdict(msgspec.Struct, frozen=True, eq=False):
    """rule: its id. hides: the client of whoever this was loads all images by machine, read or not.

    trace: what a burst takes the hit for (`traces`), or None. labels: what an open of a person or proxy
    counts under, see `breakdown`; a proxy's device and address say nothing of the reader.
    There is one of each: they are told apart by identity, so that hits are quickly counted by them.
    """

    verdict: Class
    rule: str
    hides: bool = False
    trace: int | None = None
    labels: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See the head of `data/rules.toml`. A condition that is not given holds."""

    id: str
    priority: int
    verdict: Class
    source: str
    date: date
    agent: str | None = None
    agent_contains: list[str] | None = None
    agent_words: list[str] | None = None
    client: Client | None = None
    network: list[str] | None = None
    referrer: list[str] | None = None
    no_referrer: bool = False
    purpose: list[str] | None = None
    soon: bool = False
    own: bool = False
    burst: bool = False
    hides: bool = False
    names: str | None = None


_CONDITIONS = frozenset(Rule.__struct_fields__) - {
    *("id", "priority", "verdict", "source", "date", "hides", "names")
}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    rule: list[Rule]
    ruleset: str = ""


class Evidence(NamedTuple):
    """What a verdict follows from. networks: names of lists that the address is in. purpose: of headers."""

    agent: str
    networks: tuple[str, ...] = ()
    referrer: str = ""
    purpose: str = ""
    soon: bool = False
    own: bool = False


class Rules:
    """Some rules, in any order. ruleset: their version. ValueError: two of one id, or none."""

    def __init__(self, rules: Iterable[Rule], ruleset: str) -> None:
        self.rules = sorted(rules, key=lambda rule: (-rule.priority, rule.id))
        self.ruleset = ruleset
        self.burst = next((rule for rule in self.rules if rule.burst), None)
        self._tests = [(_test(rule), rule) for rule in self.rules if not rule.burst]
        self._verdicts: dict[tuple[str, tuple[str, ...]], Verdict] = {}
        self._seen: dict[tuple[object, ...], Verdict] = {}
        self._prefixes = _all(rule.referrer for rule in self.rules)
        self._purposes = _all(rule.purpose for rule in self.rules)

    def judge(self, evidence: Evidence) -> Verdict:
        """The verdict of the first rule, by priority, of which all conditions hold."""
        return self.of(*evidence)

    def of(
        self,
        agent: str,
        networks: tuple[str, ...],
        referrer: str,
        purpose: str,
        soon: bool,
        own: bool,
    ) -> Verdict:
        """The same for the fields of an Evidence; nearly all are remembered.

        Blanks around an agent are none of it (RFC 9110, 5.5), and parsers leave those behind it.
        """
        # A stranger chooses these: what makes no difference is no verdict of its own to remember.
        if referrer:
            if referrer.startswith(self._prefixes):
                referrer = next(one for one in self._prefixes if referrer.startswith(one))
            else:
                referrer = "\n"
        if purpose:
            purpose = purpose.lower()
            purpose = "\n".join(one for one in self._purposes if one in purpose)
        key = (agent, networks, referrer, purpose, soon, own)
        found = self._seen.get(key)
        if found is None:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            found = self._seen[key] = self._judge(Evidence(agent.strip(), *key[1:]))
        return found

    def _judge(self, evidence: Evidence) -> Verdict:
        for holds, rule in self._tests:
            if holds(evidence):
                labels = _labels(rule, evidence.agent)
                return self._one(rule.verdict, rule.id, rule.hides, self._trace(rule), labels)
        return self._one("unknown", NONE, False, burst_window.UNKNOWN if self.burst else None, ())

    def _one(
        self, verdict: Class, rule: str, hides: bool, trace: int | None, labels: tuple[str, ...]
    ) -> Verdict:
        key = (rule, labels)
        if key not in self._verdicts:
            self._verdicts[key] = Verdict(verdict, rule, hides, trace, labels)
        return self._verdicts[key]

    def _trace(self, rule: Rule) -> int | None:
        """None: it has no part in a burst, nor can it be what is left of a person."""
        if self.burst is None:
            return None
        is_firm = rule.priority >= self.burst.priority
        if rule.verdict in ELIGIBLE:
            return burst_window.APART if is_firm or rule.verdict == "proxy" else burst_window.PERSON
        if rule.verdict == "scanner":
            return burst_window.SCANNER
        return burst_window.UNKNOWN if rule.verdict == "unknown" and not is_firm else None

    @cached_property
    def by_id(self) -> dict[str, Rule]:
        return {rule.id: rule for rule in self.rules}


def load(more: Path | None = None) -> Rules:
    """The shipped rules, and those of a file of the operator's. RulesError: they cannot be used."""
    text = (files("pixel_server.classify") / "data" / "rules.toml").read_text()
    found, ruleset = _read(text, "rules.toml", ())
    if more is not None:
        try:
            text = more.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise RulesError(f"PIXEL_RULES: {more}: {getattr(error, 'strerror', None) or error}") from None
        found, version = _read(text, str(more), found)
        ruleset = f"{ruleset}+{version or 'own'}"
    return Rules(found, ruleset)


def _read(text: str, name: str, others: Sequence[Rule]) -> tuple[list[Rule], str]:
    """The rules of a text and, of others, those whose ids it has not; its version."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"{name}: {error}") from None
    lines = [i for i, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
    try:
        found = msgspec.convert(content, _File)
    except msgspec.ValidationError as error:
        place = re.search(r"\$\.rule\[(\d+)\]", str(error))
        line = f" line {lines[int(place[1])]}" if place and int(place[1]) < len(lines) else ""
        raise RulesError(f"{name}{line}: {error}") from None
    if len(lines) != len(found.rule):
        raise RulesError(f"{name}: each rule must begin with a line [[rule]] of its own")
    ids = {rule.id for rule in found.rule}
    rules = [rule for rule in others if rule.id not in ids]
    for rule, at in zip(found.rule, lines, strict=True):
        if wrong := _wrong(rule, rules):
            raise RulesError(f"{name} line {at}: {wrong}")
        rules.append(rule)
    return rules, found.ruleset


def _wrong(rule: Rule, others: Sequence[Rule]) -> str:
    """Why a rule cannot stand beside others; "" if it can."""
    if rule.id == NONE or not re.fullmatch("[a-z0-9-]{1,40}", rule.id) or rule.id in {o.id for o in others}:
        return f"id {rule.id!r} is used twice, or is none (a-z, 0-9, -)"
    given = {name: getattr(rule, name) for name in _CONDITIONS if getattr(rule, name) not in (None, False)}
    if not given:
        return "it has no condition, and would hold for every hit"
    for name, value in given.items():
        if isinstance(value, list) and ("" in value or not value):
            return f"{name} must be a list of texts, none of them empty"
    if unknown := set(rule.network or ()).difference(shipped()):
        return f"network: there is no list {min(unknown)!r}; there are: {', '.join(shipped())}"
    if rule.burst and rule.verdict != "scanner":
        return f"a burst is a scanner's, not a {rule.verdict}'s"
    if rule.burst and len(given) > 1:
        return f"burst stands alone, without {', '.join(sorted(given.keys() - {'burst'}))}"
    for other in others:
        if rule.burst and other.burst:
            return f"there is a rule of bursts, {other.id!r}; give yours its id"
        if other.priority == rule.priority and other.verdict != rule.verdict:
            return (
                f"priority {rule.priority} is that of {other.id!r}, whose verdict is {other.verdict}: "
                "no two of one priority may disagree"
            )
    return ""


def _all(parts: Iterable[Sequence[str] | None]) -> tuple[str, ...]:
    """Each once, the longest first."""
    return tuple(sorted({one for some in parts for one in some or ()}, key=lambda one: (-len(one), one)))


def _labels(rule: Rule, agent: str) -> tuple[str, ...]:
    if rule.verdict == "proxy":
        return (labels.CLIENT + (rule.names or UNKNOWN),)
    if rule.verdict != "person":
        return ()
    found = facets(agent)
    return labels.CLIENT + (rule.names or found.client), labels.DEVICE + found.device


def _test(rule: Rule) -> Callable[[Evidence], bool]:
    """A function that says whether all conditions of a rule hold."""
    conditions: list[Callable[[Evidence], bool]] = []
    if rule.own:
        conditions.append(lambda e: e.own)
    if rule.soon:
        conditions.append(lambda e: e.soon)
    if rule.no_referrer:
        conditions.append(lambda e: not e.referrer)
    if rule.agent is not None:
        conditions.append(lambda e: e.agent == rule.agent)
    if (parts := rule.agent_contains) is not None:
        conditions.append(lambda e: any(part in e.agent for part in parts))
    if rule.agent_words is not None:
        conditions.append(_words(rule.agent_words))
    if (names := rule.network) is not None:
        conditions.append(lambda e: not set(names).isdisjoint(e.networks))
    if (prefixes := rule.referrer) is not None:
        conditions.append(lambda e: e.referrer.startswith(tuple(prefixes)))
    if (purposes := rule.purpose) is not None:
        conditions.append(lambda e: any(part in e.purpose.lower() for part in purposes))
    if rule.client is not None:
        conditions.append(lambda e: client(e.agent) == rule.client)
    return lambda evidence: all(condition(evidence) for condition in conditions)


def _words(words: Sequence[str]) -> Callable[[Evidence], bool]:
    pattern = "|".join(re.escape(word) for word in words)
    search = re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z])", re.I).search
    return lambda evidence: search(evidence.agent) is not None


def is_soon(delay: float | None, soon: int) -> bool:
    """Whether a hit came so many seconds after sending (None: not known) that nobody can have read."""
    return delay is not None and -CLOCKS <= delay < soon and soon > 0
