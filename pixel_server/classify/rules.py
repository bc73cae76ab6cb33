"""The verdict on a hit: a person, a proxy, a prefetch, a scanner, the sender's own, or unknown.

A verdict is a label with the id of its rule, and never deletes a hit. Rules are data, see `rule_file`. A hit
that no rule matches is `unknown`, by the rule `none`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec

from pixel_server.classify.rule_file import NO_RULE, Rule, read_rules
from pixel_server.classify.user_agents import client, facets
from pixel_server.counters import burst_window, labels
from pixel_server.counters.labels import UNKNOWN
from pixel_server.verdicts import ELIGIBLE, Class

CLOCK_ERROR_SECONDS = 60
"""Seconds by which the sender's clock may be ahead of the server's."""
MAX_REMEMBERED = 50_000
"""Largest number of verdicts that are remembered, by their evidence."""
_OTHER_REFERRER = "\n"
"""Stands for every referrer that no rule mentions."""


class Verdict(msgspec.Struct, frozen=True, eq=False):
    """The verdict on a hit.

    rule: the id of the rule. hides: the recipient's client loads all images by itself, whether or not the
    mail is read. trace: the kind of the trace (`burst_window`), or None if no burst can change the verdict.
    labels: the labels (`counters.labels`) under which an open by a person or proxy is counted. A proxy's open
    has no device label, because the device is not the reader's.

    Equal verdicts are the same object: hits are counted by the identity of their verdict, which is fast.
    """

    verdict: Class
    rule: str
    hides: bool = False
    trace: int | None = None
    labels: tuple[str, ...] = ()


class Evidence(NamedTuple):
    """The evidence that a verdict follows from.

    networks: names of the lists that hold the address. purpose: `hit.purpose`. soon: see `is_soon`. own: the
    hit is the sender's own.
    """

    agent: str
    networks: tuple[str, ...] = ()
    referrer: str = ""
    purpose: str = ""
    soon: bool = False
    own: bool = False


class Rules:
    """Rules, in any order. ruleset: their version."""

    def __init__(self, rules: Iterable[Rule], ruleset: str) -> None:
        self.rules = sorted(rules, key=lambda rule: (-rule.priority, rule.id))
        self.ruleset = ruleset
        self.burst = next((rule for rule in self.rules if rule.burst), None)
        self._tests = [(_test(rule), rule) for rule in self.rules if not rule.burst]
        self._verdicts: dict[tuple[str, tuple[str, ...]], Verdict] = {}
        self._remembered: dict[tuple[object, ...], Verdict] = {}
        self._prefixes = _longest_first(rule.referrer for rule in self.rules)
        self._purposes = _longest_first(rule.purpose for rule in self.rules)

    def judge(self, evidence: Evidence) -> Verdict:
        """Returns the verdict of the rule with the highest priority whose conditions all hold."""
        return self.verdict(*evidence)

    def verdict(
        self,
        agent: str,
        networks: tuple[str, ...],
        referrer: str,
        purpose: str,
        soon: bool,
        own: bool,
    ) -> Verdict:
        """Returns the same as `judge` for the fields of an Evidence. Nearly all verdicts are remembered.

        Strips blanks around the agent. They are not part of it (RFC 9110, 5.5), but parsers leave those at
        its end.
        """
        # Strangers choose referrer and purpose, so only the parts that rules mention are remembered.
        if referrer:
            if referrer.startswith(self._prefixes):
                referrer = next(prefix for prefix in self._prefixes if referrer.startswith(prefix))
            else:
                referrer = _OTHER_REFERRER
        if purpose:
            purpose = purpose.lower()
            purpose = "\n".join(part for part in self._purposes if part in purpose)
        key = (agent, networks, referrer, purpose, soon, own)
        verdict = self._remembered.get(key)
        if verdict is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            verdict = self._remembered[key] = self._apply(Evidence(agent.strip(), *key[1:]))
        return verdict

    def _apply(self, evidence: Evidence) -> Verdict:
        for holds, rule in self._tests:
            if holds(evidence):
                names = _labels(rule, evidence.agent)
                return self._unique(rule.verdict, rule.id, rule.hides, self._trace(rule), names)
        return self._unique("unknown", NO_RULE, False, burst_window.UNKNOWN if self.burst else None, ())

    def _unique(
        self, verdict: Class, rule: str, hides: bool, trace: int | None, names: tuple[str, ...]
    ) -> Verdict:
        """Returns the only verdict of this rule with these labels."""
        key = (rule, names)
        if key not in self._verdicts:
            self._verdicts[key] = Verdict(verdict, rule, hides, trace, names)
        return self._verdicts[key]

    def _trace(self, rule: Rule) -> int | None:
        """Returns the kind of trace of a rule's hits.

        Returns None if such a hit can neither be part of a burst nor count as an open.
        """
        if self.burst is None:
            return None
        is_above_burst = rule.priority >= self.burst.priority
        if rule.verdict in ELIGIBLE:
            is_apart = is_above_burst or rule.verdict == "proxy"
            return burst_window.APART if is_apart else burst_window.PERSON
        if rule.verdict == "scanner":
            return burst_window.SCANNER
        return burst_window.UNKNOWN if rule.verdict == "unknown" and not is_above_burst else None

    @cached_property
    def by_id(self) -> dict[str, Rule]:
        """The rules by their ids."""
        return {rule.id: rule for rule in self.rules}


def load_rules(operators: Path | None = None) -> Rules:
    """Returns the shipped rules with those of the operator's file. Raises RulesError."""
    return Rules(*read_rules(operators))


def is_soon(delay: float | None, soon_seconds: int) -> bool:
    """Returns whether a hit came too soon after sending for anyone to have read the mail.

    delay: seconds from sending to the hit, or None if not known. soon_seconds: PIXEL_SOON_SECONDS.
    """
    return delay is not None and -CLOCK_ERROR_SECONDS <= delay < soon_seconds and soon_seconds > 0


def _longest_first(lists: Iterable[Sequence[str] | None]) -> tuple[str, ...]:
    """Returns all texts of these lists without duplicates, the longest first."""
    texts = {text for texts in lists for text in texts or ()}
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))


def _labels(rule: Rule, agent: str) -> tuple[str, ...]:
    """Returns the labels that an open counts under by its rule and agent."""
    if rule.verdict == "proxy":
        return (labels.CLIENT + (rule.names or UNKNOWN),)
    if rule.verdict != "person":
        return ()
    reader = facets(agent)
    return labels.CLIENT + (rule.names or reader.client), labels.DEVICE + reader.device


def _test(rule: Rule) -> Callable[[Evidence], bool]:
    """Returns a function that tests whether all conditions of a rule hold."""
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
        conditions.append(_has_word(rule.agent_words))
    if (names := rule.network) is not None:
        conditions.append(lambda e: not set(names).isdisjoint(e.networks))
    if (prefixes := rule.referrer) is not None:
        conditions.append(lambda e: e.referrer.startswith(tuple(prefixes)))
    if (purposes := rule.purpose) is not None:
        conditions.append(lambda e: any(part in e.purpose.lower() for part in purposes))
    if rule.client is not None:
        conditions.append(lambda e: client(e.agent) == rule.client)
    return lambda evidence: all(condition(evidence) for condition in conditions)


def _has_word(words: Sequence[str]) -> Callable[[Evidence], bool]:
    """Returns a function that tests whether an agent has one of these words, in any case."""
    pattern = "|".join(re.escape(word) for word in words)
    search = re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z])", re.I).search
    return lambda evidence: search(evidence.agent) is not None
