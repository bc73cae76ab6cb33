"""The audit log: who did what with personal data, and when. No line names or describes
a recipient.

A line is written before its action, so a crash may leave a line without an action, but never an action
without a line. Only retention writes its line after the action, because it cannot know before whether there
is data to remove. Redis keeps the last MAX_LINES; each line is also in the log of its process.

Actions of recipients are in a log of their own with the same bound: anyone with the link of a mail can write
to it, and could otherwise push out every other line. `recipient_counts` also counts the lines that were
pushed out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from pixel_server import logs
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import even_if_full

Log = Literal["audit", "recipients"]
LOGS: dict[Log, str] = {"audit": keys.AUDIT, "recipients": keys.ACTIONS}
"""Keys of the logs, by name."""

log = logs.Log(__name__)

MAX_LINES = 10_000
"""Lines that each log keeps."""
_STEP_LINES = 1000
"""Lines that one step of a search reads."""

Action = Literal["recipient.stopped", "recipient.allowed", "recipient.erased"]
"""Actions that a recipient can take."""

COMMAND, PAGE, RETENTION = "command line", "privacy page", "retention"
"""Values of `who` if neither an API key nor a page was used.

Otherwise `who` is `key ID`, or `anna, by the proxy` for a user whom a proxy signed in.
"""
BY_PROXY = ", by the proxy"
"""End of `who` for a user whom a proxy signed in. Such a name may be an address, so the log leaves it out."""


class Filter(NamedTuple):
    """Choice of lines. Each field narrows it, unless it is empty or None.

    who: texts; `who` of a line must contain one of them. what: text that the action contains, as stored or
    in words: `"key.revoked"`, `"key revoked"`. campaigns: ids; a line must be on one of them.
    start, end: ms since 1970, half-open.
    """

    who: tuple[str, ...] = ()
    what: str = ""
    campaigns: tuple[str, ...] = ()
    start: int = 0
    end: int | None = None

    def has(self, line: Mapping[str, str]) -> bool:
        """Returns whether a line is wanted, whatever its time."""
        who, what, wanted = line["who"].casefold(), line["what"], self.what.casefold()
        campaigns = {line.get("campaign", ""), *line.get("campaigns", "").split(",")}
        return (
            (not self.who or any(text.casefold() in who for text in self.who))
            and (not wanted or wanted in what or wanted in words(what))
            and (not self.campaigns or not campaigns.isdisjoint(self.campaigns))
        )


EVERY = Filter()

ACTIONS = {
    "audience.counted": "audience counted",
    "audience.read": "audience listed",
    "campaign.changed": "campaign changed",
    "campaign.deleted": "campaign deleted",
    "dead_letters.dropped": "dead letters deleted",
    "dead_letters.shown": "dead letters shown",
    "deliveries.import_begun": "import of delivery reports begun",
    "deliveries.source_added": "mail service added",
    "deliveries.source_key_set": "key of mail service set",
    "deliveries.source_removed": "mail service removed",
    "host.forgotten": "host forgotten",
    "key.made": "key created",
    "key.revoked": "key revoked",
    "losses.acknowledged": "losses acknowledged",
    "names.removed": "names removed",
    "recipient.erased": "recipient erased",
    "recipient.shown": "recipient shown",
    "recipients.read": "recipients listed",
    "recipients.removed": "recipients removed",
    "recipients.upload_begun": "upload of recipients begun",
    "recipients.uploaded": "recipients uploaded",
    "share.made": "share link created",
    "share.revoked": "share link revoked",
    "sign_in_link.made": "sign-in link created",
    "store.adopted": "store adopted",
    "webhook.changed": "webhook changed",
    "webhook.deleted": "webhook deleted",
    "webhook.made": "webhook created",
    "webhook.secret": "webhook secret created",
    "withdrawals.added": "withdrawals added",
    "withdrawals.by_mail_service": "withdrawals reported by mail service",
    "withdrawals.ended": "withdrawals ended",
    "withdrawals.exported": "withdrawals downloaded",
}
"""Each action of the audit log in words."""


def words(what: str) -> str:
    """Returns an action in words: `"sign-in link created"` for `"sign_in_link.made"`."""
    return ACTIONS.get(what) or what.replace(".", " ").replace("_", " ")


async def note(store: AsyncRedis, who: str, what: str, **details: str | int) -> None:
    """Writes a line. what: the action, for example `"key.revoked"`. details: ids and counts."""
    if who != COMMAND:  # a person who types a command sees what it does
        logged_who = f"a user{BY_PROXY}" if who.endswith(BY_PROXY) else who
        log.info("audit", "%(who)s: %(what)s", who=logged_who, what=what, **details)
    fields = {"who": who, "what": what, **{name: str(value) for name, value in details.items()}}
    words = [word for field in fields.items() for word in field]
    await even_if_full(store, "XADD", keys.AUDIT, "MAXLEN", MAX_LINES, "*", *words)


async def note_recipient(store: AsyncRedis, what: Action) -> None:
    """Writes a line on an action of a recipient on the privacy page. The line does not name the recipient."""
    await even_if_full(store, "XADD", keys.ACTIONS, "MAXLEN", MAX_LINES, "*", "who", PAGE, "what", what)
    await even_if_full(store, "HINCRBY", keys.ACTION_COUNTS, what, 1)


async def recipient_counts(store: AsyncRedis) -> dict[str, int]:
    """Returns how often recipients took each action since the store was made."""
    counts = await store.hmget(keys.ACTION_COUNTS, list(get_args(Action)))
    return {what: int(count or 0) for what, count in zip(get_args(Action), counts, strict=True)}


async def read_page(
    store: AsyncRedis, before: str | None, limit: int, log_name: Log = "audit", wanted: Filter = EVERY
) -> tuple[list[dict[str, str]], str | None]:
    """Returns (lines of a log, newest first; cursor of the next page, None after the last page).

    Each line has an `id`, the id of its stream entry, for example `"1790000000000-0"`. before: a cursor,
    which is the id of the last line of the previous page. With a filter, the whole log may be read:
    MAX_LINES at the most.
    """
    lines: list[dict[str, str]] = []
    end = ("+" if wanted.end is None else f"({wanted.end}-0") if before is None else f"({before}"
    while len(lines) <= limit:
        count = limit + 1 if wanted == EVERY else _STEP_LINES
        entries = await store.xrevrange(LOGS[log_name], end, f"{wanted.start}-0", count)
        decoded = [{"id": entry.decode(), **_decode(fields)} for entry, fields in entries]
        lines += filter(wanted.has, decoded)
        if len(entries) < count:
            break
        end = f"({decoded[-1]['id']}"
    return lines[:limit], lines[limit - 1]["id"] if len(lines) > limit else None


def _decode(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
