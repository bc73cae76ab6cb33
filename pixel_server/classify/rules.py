"""The verdict on a hit: a person, a proxy, a prefetch, a scanner, the sender's own, or unknown.

A verdict is a label with the id of its rule. No verdict deletes a hit. Rules are data, see `rule_file`. A hit
that no rule matches is `unknown`, by the rule `none`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec

from pixel_server.classify.networks import Networks
from pixel_server.classify.rule_file import NO_RULE, Rule, read_rules
from pixel_server.classify.user_agents import client_class, facets
from pixel_server.counters import burst_window, labels
from pixel_server.counters.labels import UNKNOWN
from pixel_server.verdicts import ELIGIBLE, Class

CLOCK_ERROR_SECONDS = 60
"""Seconds by which the sender's clock may be ahead of this server's clock."""
MAX_CACHED = 50_000
"""Largest number of verdicts in the cache of `Rules.verdict`."""
_OTHER_REFERRER = "\n"
"""Placeholder for every referrer that no rule mentions."""


class Verdict(msgspec.Struct, frozen=True, eq=False):
    """The verdict on a hit.

    rule: the id of the rule. hides_reading: whether the recipient's client loads all images by itself, and so
    hides whether the mail is read. trace: the kind of trace that the hit leaves, or None if the hit leaves
    no trace. `burst_window` explains traces and their kinds. labels: the labels (`counters.labels`) under
    which an open by a person or proxy is counted. A proxy's open has no device label, because the device is
    not the reader's.

    Equal verdicts are the same object, so that the roll-up can count hits by the identity of their verdict,
    which is fast.
    """

    verdict: Class
    rule: str
    hides_reading: bool = False
    trace: int | None = None
    labels: tuple[str, ...] = ()


class Evidence(NamedTuple):
    """The evidence that a verdict depends on.

    networks: names of the lists that hold the hit's address. purpose: see `hit.purpose`. soon: see `is_soon`.
    own: whether the hit is the sender's own. at_delivery: see `is_at_delivery`.
    """

    agent: str
    networks: tuple[str, ...] = ()
    referrer: str = ""
    purpose: str = ""
    soon: bool = False
    own: bool = False
    at_delivery: bool = True


class Rules:
    """A set of rules. burst_rule: the rule about bursts, or None. ruleset: version of the rules."""

    def __init__(self, rules: Iterable[Rule], ruleset: str) -> None:
        self.rules = sorted(rules, key=lambda rule: (-rule.priority, rule.id))
        self.ruleset = ruleset
        self.burst_rule = next((rule for rule in self.rules if rule.burst), None)
        self._tests = [(_test(rule), rule) for rule in self.rules if not rule.burst]
        self._unique_verdicts: dict[tuple[str, tuple[str, ...]], Verdict] = {}
        self._cache: dict[tuple[object, ...], Verdict] = {}
        self._referrer_prefixes = _longest_first(rule.referrer for rule in self.rules)
        self._purpose_parts = _longest_first(rule.purpose for rule in self.rules)

    def judge(self, evidence: Evidence) -> Verdict:
        """Returns the verdict of the matching rule with the highest priority.

        A rule matches if all its conditions hold.
        """
        return self.verdict(*evidence)

    def verdict(
        self,
        agent: str,
        networks: tuple[str, ...],
        referrer: str,
        purpose: str,
        soon: bool,
        own: bool,
        at_delivery: bool,
    ) -> Verdict:
        """Returns the same as `judge` for the fields of an Evidence. Finds nearly all verdicts in a cache.

        Strips whitespace around the agent. The whitespace is not part of the agent (RFC 9110, 5.5), but
        parsers leave it at the end.
        """
        # Clients can send any referrer and purpose, so the cache's key has only the parts that rules mention.
        if referrer:
            if referrer.startswith(self._referrer_prefixes):
                referrer = next(prefix for prefix in self._referrer_prefixes if referrer.startswith(prefix))
            else:
                referrer = _OTHER_REFERRER
        if purpose:
            purpose = purpose.lower()
            purpose = "\n".join(part for part in self._purpose_parts if part in purpose)
        key = (agent, networks, referrer, purpose, soon, own, at_delivery)
        verdict = self._cache.get(key)
        if verdict is None:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            verdict = self._cache[key] = self._apply(Evidence(agent.strip(), *key[1:]))
        return verdict

    def _apply(self, evidence: Evidence) -> Verdict:
        for holds, rule in self._tests:
            if holds(evidence):
                labels_of_open = _labels(rule, evidence.agent)
                return self._unique(rule.verdict, rule.id, rule.hides, self._trace(rule), labels_of_open)
        return self._unique("unknown", NO_RULE, False, burst_window.UNKNOWN if self.burst_rule else None, ())

    def _unique(
        self,
        verdict: Class,
        rule: str,
        hides_reading: bool,
        trace: int | None,
        labels_of_open: tuple[str, ...],
    ) -> Verdict:
        """Returns the only Verdict object of this rule with these labels."""
        key = (rule, labels_of_open)
        if key not in self._unique_verdicts:
            self._unique_verdicts[key] = Verdict(verdict, rule, hides_reading, trace, labels_of_open)
        return self._unique_verdicts[key]

    def _trace(self, rule: Rule) -> int | None:
        """Returns the kind of trace that a rule's hits leave.

        Returns None if there is no rule about bursts, or if such a hit can neither be part of a burst nor
        count as an open.
        """
        if self.burst_rule is None:
            return None
        is_above_burst = rule.priority >= self.burst_rule.priority
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


def ruleset_name(rules_version: str, networks: Networks) -> str:
    """Returns the version of rules with lists of networks: `"2026-11-30.4+own/5c1f09ab"`.

    The part after the slash changes whenever a list changes.
    """
    return f"{rules_version}/{networks.version}"


def load_rules(operator_file: Path | None = None) -> Rules:
    """Returns the shipped rules with those of the operator's file. Raises RulesError as `read_rules` does."""
    return Rules(*read_rules(operator_file))


def is_soon(delay: float | None, soon_seconds: int) -> bool:
    """Returns whether a hit came so soon after sending that no person can have opened the mail.

    delay: seconds from sending to the hit, or None if not known. soon_seconds: PIXEL_SOON_SECONDS.
    """
    return delay is not None and -CLOCK_ERROR_SECONDS <= delay < soon_seconds and soon_seconds > 0


def is_at_delivery(delay: float | None, delivery_seconds: int) -> bool:
    """Returns whether a mail gateway may have fetched the image while it delivered the mail.

    delay: seconds from sending to the hit, or None if not known. delivery_seconds: PIXEL_DELIVERY_SECONDS.
    """
    return delay is None or delay < delivery_seconds


def _longest_first(lists: Iterable[Sequence[str] | None]) -> tuple[str, ...]:
    """Returns all texts of these lists without duplicates, the longest first."""
    texts = {text for texts in lists for text in texts or ()}
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))


def _labels(rule: Rule, agent: str) -> tuple[str, ...]:
    """Returns the labels under which to count an open with this agent, if this rule decided its verdict."""
    if rule.verdict == "proxy":
        return (labels.CLIENT + (rule.counted_client or UNKNOWN),)
    if rule.verdict != "person":
        return ()
    agent_facets = facets(agent)
    return labels.CLIENT + (rule.counted_client or agent_facets.client), labels.DEVICE + agent_facets.device


def _test(rule: Rule) -> Callable[[Evidence], bool]:
    """Returns a function that tests whether all conditions of a rule hold."""
    conditions: list[Callable[[Evidence], bool]] = []
    if rule.own:
        conditions.append(lambda e: e.own)
    if rule.soon:
        conditions.append(lambda e: e.soon)
    if rule.at_delivery:
        conditions.append(lambda e: e.at_delivery)
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
        conditions.append(lambda e: client_class(e.agent) == rule.client)
    return lambda evidence: all(condition(evidence) for condition in conditions)


def _has_word(words: Sequence[str]) -> Callable[[Evidence], bool]:
    """Returns a function that tests whether an agent has one of these words, in upper or lower case."""
    pattern = "|".join(re.escape(word) for word in words)
    search = re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z])", re.I).search
    return lambda evidence: search(evidence.agent) is not None
