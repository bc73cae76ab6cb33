"""Lists of links: each row checked, all bad rows named, no link made unless all are good."""

from __future__ import annotations

from typing import Any

from pixel_server.api import request_body
from pixel_server.mail.links import Minter, check_recipient
from pixel_server.problems import Problem
from pixel_server.times import DAY
from pixel_server.tokens import MODES, Mode, Part

MOST = 10_000
PARTS = tuple(part.name.lower() for part in Part)

Row = dict[str, Any]


def recipient(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return check_recipient(value)


_KNOWN: dict[str, request_body.Check] = {
    "recipient": recipient,
    "mode": request_body.one_of(*MODES),
    "part": request_body.one_of(*PARTS),
    "sent_at": request_body.instant,
    "test": request_body.flag,
}


def rows(content: Any, most: Mode) -> tuple[list[Row], bool]:
    """The rows of `{recipients: [...], sent}`, each with its mode, and whether their mails are sent.

    most: the campaign's mode; a row without one gets it. Problem 422: every bad row, by its number.
    """
    asked = request_body.check(
        content, {"recipients": listed, "sent": request_body.flag}, frozenset({"recipients"})
    )
    found = asked["recipients"]
    good: list[Row] = []
    errors: list[dict[str, Any]] = []
    for number, given in enumerate(found):
        row = {"recipient": given} if isinstance(given, str) else given
        if not isinstance(row, dict):
            errors.append({"row": number, "field": "recipient", "message": "must be text or an object"})
            continue
        fields, wrong = request_body.examine(row, _KNOWN, frozenset({"recipient"}))
        chosen = fields["mode"] = Mode[fields["mode"].upper()] if "mode" in fields else most
        if chosen > most:
            message = f"is more than the campaign's mode, {most.name.lower()}"
            wrong.append({"field": "mode", "message": message})
        errors += [{"row": number, **error} for error in wrong]
        good.append(fields)
    if errors:
        raise Problem(422, f"{len({error['row'] for error in errors})} rows cannot be used", errors)
    return good, asked.get("sent", False)


def mailed(rows: list[Row], now: float) -> tuple[dict[int, list[str]], int]:
    """Of rows whose mails are sent: the recipients that may be told apart, by day, and how many others.

    A day is its first second, of UTC. Neither the sender's own trial mails are among them, nor mails without
    a pixel.
    """
    told: dict[str, int] = {}
    others: set[str] = set()
    for row in rows:
        recipient, mode = row["recipient"], row["mode"]
        if row.get("test") or mode == Mode.OFF:
            continue
        if mode < Mode.PSEUDONYMOUS:
            others.add(recipient)
            continue
        at = int(row.get("sent_at", now)) // DAY * DAY
        told[recipient] = max(at, told.get(recipient, 0))
    days: dict[int, list[str]] = {}
    for recipient, at in told.items():
        days.setdefault(at, []).append(recipient)
    return days, len(others - told.keys())


def mint(minter: Minter, campaign: str, row: Row, now: float) -> dict[str, str | None]:
    """{recipient, url, html, privacy_url} of one good row."""
    link = minter.link(
        campaign,
        row["recipient"],
        mode=row["mode"],
        part=Part[row.get("part", "single").upper()],
        sent_at=row.get("sent_at"),
        test=row.get("test", False),
        now=now,
    )
    return {
        "recipient": row["recipient"],
        "url": link.url,
        "html": link.html,
        "privacy_url": link.privacy_url,
    }


def listed(value: Any) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST:
        raise ValueError(f"must be a list of 1 to {MOST} recipients")
    return value
