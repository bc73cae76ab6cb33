"""`pixel-server demo ...`: two made-up campaigns, filled as real ones are, and taken away again."""

from __future__ import annotations

import itertools
import json
from typing import Any, NamedTuple

import click
import msgspec

from pixel_server.campaigns.storage import Campaign, Kind
from pixel_server.commands.support import Failure, as_json, settings_here, store_url, with_store
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.tokens import Mode

NAMES: dict[Kind, tuple[str, str]] = {
    "email": ("demo-newsletter", "Demo: newsletter"),
    "web": ("demo-site", "Demo: web site"),
}
"""Id and name by kind. Ids are never given twice, so a later demo's end in -2, -3 and so on."""
UNFINISHED = " (unfinished)"
"""What the names of a demo end in until all of its hits are stored."""
SEED = 7
PATIENCE = 60.0
STEP = 500
_MEMORY = 1 << 26


class Added(NamedTuple):
    """ids: of the campaigns, that of mail first. hits: how many; 0: the demo was there. removed: ids of one
    that was cut short before."""

    ids: list[str]
    hits: int
    removed: list[str]


@click.group()
def demo() -> None:
    """Add and remove two made-up campaigns."""


@demo.command("add")
@click.option("--seed", default=SEED, show_default=True, help="Another one makes up other figures.")
@as_json
def add_demo(seed: int, as_json: bool) -> None:
    """Add a campaign of mail and one of a web site, with a fortnight of made-up hits."""
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.consent import Consent  # noqa: PLC0415
    from pixel_server.run import lifeline  # noqa: PLC0415
    from pixel_server.store import clock  # noqa: PLC0415

    lifeline.hold()
    settings = settings_here()
    if Consent(settings).rule("identified", None).mode == Mode.OFF:
        raise Failure("no demo: PIXEL_MAX_MODE is off, so nothing is kept")
    url = store_url(settings)

    async def fill(store: Any, found: Settings) -> Added:
        secrets = Secrets.load(found.data, found.signing, found.recipient_secret)
        return await add(store, url, found, secrets, await clock.now(store), seed)

    try:
        done = with_store(fill)
    except storage.Unknown:
        raise Failure("the demo was removed while it was filled") from None
    if as_json:
        click.echo(json.dumps(done._asdict()))
        return
    if done.removed:
        click.echo(f"removed {' and '.join(done.removed)}: that demo was cut short")
    what = f"{done.hits:,} made-up hits in" if done.hits else "there already:"
    click.echo(f"demo: {what} {' and '.join(done.ids)}")


@demo.command("remove")
@as_json
def remove_demo(as_json: bool) -> None:
    """Remove the demo, with all that was counted for it."""
    gone = with_store(remove)
    if as_json:
        click.echo(json.dumps({"removed": gone}))
    else:
        click.echo(f"removed {' and '.join(gone)}" if gone else "there is no demo")


async def add(store: Any, url: str, settings: Settings, secrets: Secrets, now: float, seed: int) -> Added:
    """Makes both campaigns and stores their hits; nothing, if there is a demo. url: of the store.

    Of a demo that was cut short, nobody knows which hits it has: it is removed first.
    campaigns.Unknown: removed meanwhile. Failure: not all hits could be stored.
    """
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.consent import Consent  # noqa: PLC0415
    from pixel_server.demo import hits  # noqa: PLC0415
    from pixel_server.store import audit_log  # noqa: PLC0415

    there = await _found(store)
    if there and not any(one.name.endswith(UNFINISHED) for one in there):
        return Added([one.id for one in sorted(there, key=lambda one: one.kind)], 0, [])
    removed = await remove(store, settings)
    mode = min(Mode.PSEUDONYMOUS, Consent(settings).rule("identified", None).mode)
    letter = await _make(store, "email", mode, now)
    pages = await _make(store, "web", mode, now)
    await _mail(store, letter, settings, secrets)
    made = list(hits.fortnight(letter.id, pages.id, now, seed, secrets, mode, settings.shards))
    await _turn_back(store, settings.shards, made[0][1].time)
    await _record(url, settings.shards, made)
    for one in (letter, pages):
        await storage.change(store, one.id, {"name": NAMES[one.kind][1]}, audit_log.COMMAND)
    return Added([letter.id, pages.id], len(made), removed)


async def remove(store: Any, settings: Settings) -> list[str]:
    """Deletes what `add` made, and nothing else; the ids."""
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.store import audit_log  # noqa: PLC0415

    gone = []
    for one in sorted(await _found(store), key=lambda one: one.kind):
        await audit_log.note(store, audit_log.COMMAND, "campaign.deleted", campaign=one.id)
        await storage.delete(store, one.id, settings.shards)
        gone.append(one.id)
    return gone


async def _found(store: Any) -> list[Campaign]:
    """The campaigns that `add` made."""
    from pixel_server.campaigns import storage  # noqa: PLC0415

    found: list[Campaign] = []
    after: str | None = None
    while True:
        part, after = await storage.page(store, after, 1000)
        found += [one for one in part if one.made_by == "demo"]
        if after is None:
            return found


async def _make(store: Any, kind: Kind, mode: Mode, now: float) -> Campaign:
    """A campaign of this kind, under the first id that never was given."""
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.demo import hits, mailing  # noqa: PLC0415

    first, name = NAMES[kind]
    for number in itertools.count(1):
        made = storage.new(first if number == 1 else f"{first}-{number}", name + UNFINISHED, kind)
        made = msgspec.structs.replace(made, mode=mode.name.lower(), made_by="demo")
        if kind == "email":
            sent_at = mailing.sent_at(hits.first_day(now), 0)
            counts = {"sent": mailing.READERS, "bounced": mailing.BOUNCED}
            made = msgspec.structs.replace(made, sent_at=sent_at, **counts)
        else:
            made = msgspec.structs.replace(made, identity="cookie")
        try:
            await storage.create(store, made)
        except storage.Exists:
            continue
        return made
    raise AssertionError


async def _mail(store: Any, letter: Campaign, settings: Settings, secrets: Secrets) -> None:
    """Says whom the mails went to, as who makes links over the API does."""
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.demo import hits, mailing  # noqa: PLC0415
    from pixel_server.recipients import lists  # noqa: PLC0415

    assert letter.sent_at is not None
    await storage.note_links(store, letter.id, letter.sent_at)
    try:
        await lists.begin(store, letter.id, False, settings, letter.sent_at)
        rows = [lists.Row(hits.recipient(reader), None) for reader in range(mailing.READERS)]
        for i in range(0, len(rows), STEP):
            part = rows[i : i + STEP]
            await lists.put(store, secrets, letter.id, part, settings.shards, False, mailed=letter.sent_at)
    except lists.Closed:
        pass  # this server tells no recipients apart


async def _turn_back(store: Any, shards: int, first: int) -> None:
    """Where newer hits were counted, those of a fortnight ago would be late: views and no visits.

    So a shard's newest hit is taken to be one before them. What is kept of the minutes before it, to see
    bursts, would then be out of reach, and goes. first: ms.
    """
    from pixel_server.counters import burst_window  # noqa: PLC0415
    from pixel_server.store import checkpoint, keys  # noqa: PLC0415

    for shard in range(shards):

        async def commands(shard: int = shard) -> list[checkpoint.Command]:
            newest = await checkpoint.read_newest_ms(store, shard)
            if newest < first:
                return []
            held = [keys.evidence(shard, minute) for minute in burst_window.minutes(newest)]
            return [("HSET", keys.checkpoint(shard), "newest", str(first)), ("UNLINK", *held)]

        await checkpoint.plan_and_commit(store, shard, commands)


async def _record(url: str, shards: int, made: Any) -> None:
    """Stores hits as a web process does, in their order. Failure: not all of them."""
    from pixel_server import hit  # noqa: PLC0415
    from pixel_server.collect.recorder import Recorder  # noqa: PLC0415
    from pixel_server.collect.redis_sink import RedisSink  # noqa: PLC0415

    stream = RedisSink(url, within=5.0)
    recorder = Recorder(stream, shards, _MEMORY)
    recorder.start()
    taken = [recorder.record(shard, hit.encode(one), lambda stored: None) for shard, one in made]
    await recorder.close(PATIENCE)
    stream.close()
    if not all(taken) or recorder.counts["stored"] < len(taken):
        raise Failure("the demo could not be stored whole; `pixel-server demo remove` takes it away")
