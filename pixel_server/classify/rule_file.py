"""Reads and checks the files of rules: the shipped `data/rules.toml`, and the operator's PIXEL_RULES."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path

import msgspec

from pixel_server.classify.networks import list_names
from pixel_server.verdicts import Class, ClientClass

NO_RULE = "none"
"""Id under which a hit is counted if no rule matches it. A rule cannot have this id."""


class RulesError(ValueError):
    """A rule file cannot be used. The message has no line break. It names the file and, if known, a line."""

    is_loggable = True


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule.

    The head of `data/rules.toml` explains the fields. A condition that is left out always holds.
    counted_client: the mail client under which an open by this rule is counted; `names` in the file.
    """

    id: str
    priority: int
    verdict: Class
    source: str
    date: date
    agent: str | None = None
    agent_contains: list[str] | None = None
    agent_words: list[str] | None = None
    client: ClientClass | None = None
    network: list[str] | None = None
    referrer: list[str] | None = None
    no_referrer: bool = False
    purpose: list[str] | None = None
    soon: bool = False
    at_delivery: bool = False
    own: bool = False
    burst: bool = False
    hides: bool = False
    counted_client: str | None = msgspec.field(default=None, name="names")


_CONDITIONS = frozenset(Rule.__struct_fields__) - {
    *("id", "priority", "verdict", "source", "date", "hides", "counted_client")
}


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a file of rules."""

    rule: list[Rule]
    ruleset: str = ""


def read_rules(operator_file: Path | None = None) -> tuple[list[Rule], str]:
    """Returns the shipped rules with those of the operator's file, and their version: `2026-11-26.1+own`.

    A rule of the operator replaces the shipped rule of the same id. Raises RulesError if a file cannot be
    used.
    """
    text = (files("pixel_server.classify") / "data" / "rules.toml").read_text()
    rules, version = _parse(text, "rules.toml", ())
    if operator_file is not None:
        try:
            text = operator_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RulesError(f"PIXEL_RULES: {operator_file}: {reason}") from None
        rules, operator_version = _parse(text, str(operator_file), rules)
        version = f"{version}+{operator_version or 'own'}"
    return rules, version


def _parse(text: str, file_name: str, earlier: Sequence[Rule]) -> tuple[list[Rule], str]:
    """Returns the earlier rules with those of a file, and the file's version.

    A rule of the file replaces the earlier rule of the same id. text: content of the file. Raises RulesError
    if the file cannot be used.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"{file_name}: {error}") from None
    lines = [i for i, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
    try:
        parsed = msgspec.convert(content, _Content)
    except msgspec.ValidationError as error:
        place = re.search(r"\$\.rule\[(\d+)\]", str(error))
        line = f" line {lines[int(place[1])]}" if place and int(place[1]) < len(lines) else ""
        raise RulesError(f"{file_name}{line}: {error}") from None
    if len(lines) != len(parsed.rule):
        raise RulesError(f"{file_name}: each rule must begin with a line [[rule]] of its own")
    ids = {rule.id for rule in parsed.rule}
    rules = [rule for rule in earlier if rule.id not in ids]
    for rule, number in zip(parsed.rule, lines, strict=True):
        if fault := _find_fault(rule, rules):
            raise RulesError(f"{file_name} line {number}: {fault}")
        rules.append(rule)
    return rules, parsed.ruleset


def _find_fault(rule: Rule, others: Sequence[Rule]) -> str:
    """Returns the reason why a rule cannot be used beside the others, or "" if it can be used."""
    is_used = rule.id in {other.id for other in others}
    if rule.id == NO_RULE or not re.fullmatch("[a-z0-9-]{1,40}", rule.id) or is_used:
        return f"id {rule.id!r} is used twice, or is not an id (a-z, 0-9, -)"
    conditions = {
        name: getattr(rule, name) for name in _CONDITIONS if getattr(rule, name) not in (None, False)
    }
    if not conditions:
        return "it has no condition, and would match every hit"
    for name, value in conditions.items():
        if isinstance(value, list) and ("" in value or not value):
            return f"{name} must be a list of texts that are not empty"
    if unknown := set(rule.network or ()).difference(list_names()):
        return f"network: there is no list {min(unknown)!r}; there are: {', '.join(list_names())}"
    if rule.burst and rule.verdict != "scanner":
        return f"the verdict on a burst must be scanner, not {rule.verdict}"
    if rule.burst and len(conditions) > 1:
        return f"burst must be the only condition, without {', '.join(sorted(conditions.keys() - {'burst'}))}"
    for other in others:
        if rule.burst and other.burst:
            return f"there is already a rule about bursts, {other.id!r}: use its id to replace it"
        if other.priority == rule.priority and other.verdict != rule.verdict:
            return (
                f"priority {rule.priority} is that of {other.id!r}, whose verdict is {other.verdict}: "
                "two rules of the same priority must have the same verdict"
            )
    return ""
