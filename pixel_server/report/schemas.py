"""The schemas of the OpenAPI document: what is taken, what is answered, with bounds and what null means."""

from __future__ import annotations

from typing import Any

from pixel_server import campaigns, notes, sharelinks
from pixel_server.apikeys import MOST_SCOPES, OF_CAMPAIGN, SCOPES
from pixel_server.campaigns import time_zones
from pixel_server.links import MAX_RECIPIENT
from pixel_server.report import body, breakdowns, hyperloglog, links, overview, ranges, stats
from pixel_server.retention import KINDS
from pixel_server.settings import SIGNALS
from pixel_server.slug import PATTERN
from pixel_server.tokens import MODES
from pixel_server.verdicts import CLASSES

Schema = dict[str, Any]

LISTED = "It is on the campaign's list: by an upload, or by links made with `sent`."


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema, description: str) -> Schema:
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"], "description": description}
    return {"anyOf": [schema, {"type": "null"}], "description": description}


def count(description: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": description}


def text(description: str, **rules: Any) -> Schema:
    return {"type": "string", **rules, "description": description}


def instant(description: str) -> Schema:
    return text(description, format="date-time")


def choice(choices: tuple[str, ...], description: str, **rules: Any) -> Schema:
    return text(description, enum=list(choices), **rules)


def array(items: Schema, **rules: Any) -> Schema:
    return {"type": "array", "items": items, **rules}


def answer(optional: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """An answer: all fields are there but the optional ones, and later versions may add some."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def taken(required: tuple[str, ...], **properties: Schema) -> Schema:
    """What is taken: nothing but these fields."""
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def named() -> dict[str, Schema]:
    name = text(
        "For people. Not only blanks, no control characters.",
        minLength=1,
        maxLength=body.MAX_NAME,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
    )
    kind = choice(("email", "web"), "Whether its pixel stands in mails or in pages.")
    sent = or_null(
        {"type": "integer", "minimum": 0, "maximum": body.MAX_SENT}, "Mails sent; null: not known."
    )
    zone = {**ref("TimeZone"), "description": "Its days are days of this zone. Fixed after the first hit."}
    base_url = or_null(
        {"type": "string", "pattern": r"^https?://[!$%&()*+,./0-9:;=@A-Z\[\]_a-z~-]+$", "maxLength": 500},
        "Where its links point, perhaps with a path; null: the server's `PIXEL_BASE_URL`.",
    )
    mode = choice(
        MODES[::-1],
        "How much is kept of a recipient at most; can only fall after the first link or hit. "
        "Default: the server's `PIXEL_DEFAULT_MODE`.",
    )
    gpc = {
        "enum": [*SIGNALS, None],
        "description": "What `Sec-GPC: 1` and `DNT: 1` do; null: as the server's `PIXEL_GPC` says.",
    }
    sent_at = or_null(
        {"type": "string", "format": "date-time"},
        "When it was sent; its recipients and names are kept so many days from then. Null: not known.",
    )
    keep = {
        "type": "object",
        "properties": {kind: {"type": "integer", "minimum": 1} for kind in KINDS},
        "additionalProperties": False,
        "description": "Days, where fewer than the server's `PIXEL_KEEP_DAYS_*`.",
    }
    bounced = {**count("Mails that came back."), "maximum": body.MAX_SENT}
    identity = choice(
        campaigns.IDENTITIES,
        "What a visitor is told by: a hash of address and user agent, another each day; a cookie, where the "
        "page says that its reader agreed; the page's own `v`. Fixed after the first hit.",
    )
    origins = array(
        {"type": "string", "pattern": body.ORIGIN},
        maxItems=body.MOST_ORIGINS,
        description="Of the pages that may send with `p.js`, as `https://www.example.org`; none: all may.",
    )
    min_cell = {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "description": "Visits (or opens) of a day below which a shared key is not shown a figure apart.",
    }
    web = {"identity": identity, "origins": origins}
    changeable = {
        "name": name,
        "bounced": bounced,
        "sent_at": sent_at,
        "keep": keep,
        "sent": sent,
        "time_zone": zone,
        "base_url": base_url,
        "mode": mode,
        "gpc": gpc,
        "min_cell": min_cell,
    }
    new = {**changeable, **web, "time_zone": {**zone, "default": "UTC"}}
    recipient = _recipient()
    row = taken(
        ("recipient",),
        recipient=recipient,
        mode=choice(
            MODES, "How much is kept of the recipient; `off`: no pixel. Default, and most: the campaign's."
        ),
        part=choice(links.PARTS, "Which pixel of the mail; `bottom` counts no open.", default="single"),
        sent_at=instant("When the mail goes out, to the second, 1970 to 2106. Default: not known."),
        test={"type": "boolean", "default": False, "description": "A trial mail of the sender's own."},
    )
    times = {"created": instant("When it was made.")}
    api_key = {
        "id": ref("ApiKeyId"),
        "name": name,
        "scopes": array(_scope(), minItems=1, uniqueItems=True),
        **times,
        "last_used": or_null(instant(""), "To the minute; null: never."),
    }
    return {
        "CampaignId": text("A slug.", pattern=f"^{PATTERN}$"),
        "TimeZone": text("A name from the IANA time zone database.", enum=sorted(time_zones())),
        "Campaign": answer(
            id=ref("CampaignId"),
            kind=kind,
            **changeable,
            **{field: or_null(schema, "Null: of mail.") for field, schema in web.items()},
            **times,
            closed_at=or_null(instant(""), "Since when its recipients are gone, and hits only counted."),
            made_by=choice(
                ("api", "hit", "demo"),
                "`hit`: a good link of a campaign that nobody had made yet. `demo`: all of it is made up.",
            ),
        ),
        "NewCampaign": taken(("id", "name", "kind"), id=ref("CampaignId"), kind=kind, **new),
        "CampaignChange": taken((), **changeable, **web),
        "Recipients": taken(
            ("recipients",),
            recipients=array({"anyOf": [recipient, row]}, minItems=1, maxItems=links.MOST),
            sent={
                "type": "boolean",
                "default": False,
                "description": "Their mails are sent: recipients are put on the campaign's list, and counted "
                "once each as sent to; in modes that tell none apart, only counted, each time.",
            },
        ),
        "Link": answer(
            recipient=recipient,
            url=or_null(text(""), "The pixel's address; null in mode `off`."),
            html=or_null(text(""), "The image tag for the mail; null in mode `off`."),
            privacy_url=or_null(
                text(""), "The page on which its recipient sees what is recorded, and stops it."
            ),
        ),
        "ApiKeyId": text("An API key's id.", pattern="^[0-9a-f]{12}$"),
        "ApiKey": answer(**api_key),
        "NewApiKey": answer(**api_key, key=text("The key itself.")),
        "KeyRequest": taken(
            ("name", "scopes"), name=name, scopes=array(_scope(), minItems=1, maxItems=MOST_SCOPES)
        ),
        **_beside(name),
        "Problem": answer(
            ("errors",),
            type=text("Always `about:blank`.", format="uri-reference"),
            title=text("The status in words."),
            status={"type": "integer", "minimum": 400, "maximum": 599},
            detail=text("What is wrong, and what helps."),
            errors=array(
                answer(
                    ("row", "line"),
                    row=count("In a list: which of them, from 0."),
                    line=count("In an upload: which line, from 1."),
                    field=text("The field or parameter."),
                    message=text("What is wrong with it."),
                ),
            ),
        ),
        "Readiness": answer(
            ("workers", "oldest_uncounted_seconds", "stream_entries", "dead_letters", "drops", "stopped"),
            status=choice(("ok", "degraded", "failing"), "`failing`: hits are not stored."),
            warnings=array(text("A line for the operator.")),
            recorder=answer(
                failing_since=or_null({"type": "number"}, "Seconds since 1970; null: it is not failing."),
                pending_bytes=count("Memory held by hits that are not stored yet."),
            ),
            redis=answer(
                ("durability", "error"),
                answers={"type": "boolean"},
                durability=text("What a crash of it may cost."),
                error=text("Why it does not answer."),
            ),
            spool=answer(
                segments=count("Files of hits that wait on disk, for Redis was away."),
                hits=count("Hits in them."),
                bytes=count("Their size."),
                waiting_since=or_null(instant(""), "Since when the oldest waits; null: none does."),
                set_aside=count("Files that cannot be replayed."),
            ),
            workers=count("Seen within 10 s."),
            oldest_uncounted_seconds=or_null({"type": "number"}, "Age of that hit; null: all are counted."),
            stream_entries=count("Batches that wait to be counted."),
            dead_letters=count("Hits set aside because they cannot be read."),
            drops={"type": "object", "additionalProperties": count("Hits not counted, by reason.")},
            stopped={"type": "object", "additionalProperties": text("Why a shard stands still, by shard.")},
        ),
        **_people(),
        **_stats(),
        **_shared(kind),
    }


def _beside(name: Schema) -> dict[str, Schema]:
    """Notes and share links of a campaign. name: text of up to 200 characters."""
    at = {"type": "string", "format": "date-time"}
    words = {**name, "description": "What happened. Not only blanks, no control characters."}
    frames = array(
        {"type": "string", "pattern": body.ORIGIN},
        maxItems=body.MOST_ORIGINS,
        description="Origins whose pages may frame it, as `https://www.example.org`; none: nobody may.",
    )
    share = {
        "id": ref("ShareId"),
        "campaign": ref("CampaignId"),
        "name": name,
        "created": instant("When it was made."),
        "made_by": text("`key ID` or `command line`."),
        "expires_at": or_null(at, "From then on it opens nothing; null: never."),
        "frames": frames,
        "last_used": or_null(at, "The hour in which it last was; null: never."),
    }
    return {
        "NoteId": text("A note's id.", pattern=f"^{notes.PATTERN}$"),
        "Note": answer(id=ref("NoteId"), at=instant("When it happened."), text=words),
        "NewNote": taken(
            ("text",), at=instant("When it happened, to the second, 1970 to 2106. Default: now."), text=words
        ),
        "ShareId": text("A share link's id, not its token.", pattern=f"^{sharelinks.PATTERN}$"),
        "Share": answer(**share),
        "NewShare": answer(**share, url=text("The link itself. Who has it sees the shared figures.")),
        "ShareRequest": taken(
            ("name",),
            name=name,
            expires_at=or_null(at, "In the future, to the second, until 2106. Null, the default: never."),
            frames=frames,
        ),
    }


def _scope() -> Schema:
    shared = text("Of this campaign, what may be shared.", pattern=f"^{OF_CAMPAIGN}{PATTERN}$")
    return {"anyOf": [{"enum": list(SCOPES)}, shared]}


def _recipient() -> Schema:
    return text(
        "Any string without control characters. Only its keyed hash is kept.",
        minLength=1,
        maxLength=MAX_RECIPIENT,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]+$",
    )


def _people() -> dict[str, Schema]:
    """What stands under the scope `people`."""
    recipient = _recipient()
    instants = {
        "from": or_null(instant(""), "Null: an erasure, which reaches hits of any time before."),
        "until": or_null(instant(""), "Null: it holds."),
    }
    return {
        "RecipientKey": text("The keyed hash of a recipient.", pattern="^[0-9a-f]{16}$"),
        "RecipientQuery": {
            "oneOf": [taken(("recipient",), recipient=recipient), taken(("token",), token=text("Of a link."))]
        },
        "RecipientList": taken(("recipients",), recipients=array(recipient, minItems=1, maxItems=links.MOST)),
        "KeptOfRecipient": answer(
            key=ref("RecipientKey"),
            campaigns=array(
                answer(
                    campaign=ref("CampaignId"),
                    listed={"type": "boolean", "description": LISTED},
                    recipient=or_null(text(""), "As uploaded, in mode `identified`; null: it is not kept."),
                    name=or_null(text(""), "As uploaded, in mode `identified`; null: there is none."),
                    opens=count("How many."),
                    first_open=or_null(instant(""), "Null: none."),
                    last_open=or_null(instant(""), "Null: none."),
                    top={"type": "boolean", "description": "The mail's upper pixel was loaded."},
                    bottom={"type": "boolean", "description": "The mail's lower pixel was loaded."},
                )
            ),
            last_open_day=or_null(text("", format="date"), "Of mode `last`, over all campaigns; UTC."),
            withdrawals=array(answer(**instants)),
            waiting={"type": "boolean", "description": "Hits wait to be counted; some may be of this one."},
        ),
        "Recipient": answer(
            key=ref("RecipientKey"),
            recipient=or_null(text(""), "As uploaded, in mode `identified`; null: it is not kept."),
            name=or_null(text(""), "As uploaded, in mode `identified`; null: there is none."),
            listed={"type": "boolean", "description": LISTED},
            opens=count("How many."),
            opens_person=count("Of these, by a person or a proxy for one."),
            first_open=or_null(instant(""), "Null: none."),
            last_open=or_null(instant(""), "Null: none."),
            last_open_person=or_null(instant(""), "By a person or a proxy for one; null: none."),
        ),
        "QuietRecipient": answer(
            key=ref("RecipientKey"),
            recipient=or_null(text(""), "As uploaded, in mode `identified`; null: it is not kept."),
            name=or_null(text(""), "As uploaded, in mode `identified`; null: there is none."),
            campaigns=count("Of which it had mail since then."),
            last_open_person=or_null(instant(""), "By a person or a proxy for one, before that; null: none."),
        ),
        "Uploaded": answer(
            lines=count("The number of the last line that was dealt with."),
            new=count("Recipients that were not on the list."),
            known=count("Those that were; names are as they came last."),
            withdrawn=count("Those who said no: left out."),
            bad=count("Lines that cannot be used: left out."),
        ),
        "Kept": answer(
            data=text("What it is, as `recipients`."),
            holds=text("What is in it."),
            number=count("Of it, in `unit`."),
            unit=text("What `number` counts."),
            oldest=or_null(text(""), "A day or an instant of UTC; null: there is none, or it has no time."),
            kept_for=text("For how long, by the settings of this server; a campaign may keep less."),
            where=text("Its keys in Redis, or its place on disk."),
        ),
        "AuditLine": answer(
            at=instant("When."),
            who=text("`key ID`, `command line`, `privacy page`, `retention` or `PIXEL_API_KEY`."),
            what=text("As `recipient.erased`."),
            about={"type": "object", "additionalProperties": text("Ids and counts; no personal data.")},
        ),
        "Withdrawal": answer(
            mark=text("A hash of the recipient's key, used nowhere else.", pattern="^[0-9a-f]{16}$"),
            periods=array(answer(**instants)),
        ),
    }


def _stats() -> dict[str, Schema]:
    """Figures of both kinds of campaign; an interval has a start and no `unique_ips`."""

    def figure(what: str) -> Schema:
        return or_null(count(""), f"{what} Null where the 15-minute series are no longer kept.")

    hits = figure("All recorded requests, HEAD among them.")
    opens = figure("GETs of a pixel that counts as an open.")
    first = figure(
        "Recipients whose first open lies in the range, exact; null in a mode that tells none apart."
    )
    visitors = or_null(
        count(""), "Estimate. Of each day, its own visitors. Null but for `day` in the campaign's own zone."
    )
    asked = figure("Hits that came with `Sec-GPC: 1` or `DNT: 1`, where that is not ignored.")
    totals = {
        "unique_ips": or_null(count(""), "Client addresses, estimate. Null in a range."),
        "dropped_gpc": or_null(
            count(""), "Opens or views with `Sec-GPC: 1` or `DNT: 1` that were not kept. Null in a range."
        ),
        "dropped_opted_out": or_null(
            count(""), "Opens or views of browsers with the opt-out cookie, not kept. Null in a range."
        ),
    }
    refused = or_null(count(""), "Beacons of pages of other origins than `origins`. Null in a range.")
    start = text("First instant of the interval, with the zone's offset.", format="date-time")
    anonymous = figure("Opens of which nothing is kept that tells recipients apart.")
    email = {
        "hits": hits,
        "opens": opens,
        "unique_opens": first,
        "unique_opens_person": figure(
            "Recipients whose first open by a person, or a proxy for one, lies in the range; null likewise."
        ),
        "opens_anonymous": anonymous,
        "hits_gpc": asked,
    }
    web = {
        "hits": hits,
        "views": figure("Views of pages by people, as far as is known."),
        "views_bot": figure("Views by scanners and prefetches; in no other figure but `hits`."),
        "visits": figure(
            "Views of one visitor without a pause of 30 minutes between, at most a day. Null in a mode that "
            "tells none apart."
        ),
        "bounces": figure("Visits of one view; null likewise."),
        "visits_new": figure("A visitor's first visit, as its cookie says; null without identity `cookie`."),
        "visits_returning": figure("Later visits; null likewise. Visits without a cookie are in neither."),
        "views_no_visitor": figure(
            "Of `views`, those whose visitor is not told: by mode, GPC or DNT, a proxy, no `v`, or as they "
            "came so late that the salt of their day was gone."
        ),
        "views_no_visit": figure(
            "Of `views`, those of a visitor that are in no visit: 30 minutes or more behind others, or "
            "beyond the visits that there is room for."
        ),
        "unique_visitors": visitors,
        "hits_gpc": asked,
    }
    rate = {"type": "number", "minimum": 0, "maximum": 1}
    quartiles = {name: {"type": "number"} for name in ("quartile_1", "median", "quartile_3")}
    return {
        "EmailTotals": answer(**email, **totals),
        "WebTotals": answer(**web, **totals, refused_origin=refused),
        "EmailInterval": answer(start=start, **email),
        "WebInterval": answer(start=start, **web),
        "Breakdowns": answer(
            campaign=ref("CampaignId"),
            **{
                "from": text("First instant.", format="date-time"),
                "to": text("The first instant after.", format="date-time"),
            },
            time_zone=ref("TimeZone"),
            by={
                "type": "object",
                "properties": {name: array(ref("ViewsOf")) for name in breakdowns.BY},
                "additionalProperties": False,
                "description": "Most visits first. In each, views and visits add up to those of the range.",
            },
        ),
        "ViewsOf": answer(
            name=text("What strangers sent, as text: show it as text. `(none)`, `(unknown)`, `(other)`."),
            views=count("Under this page, country, ...; or in visits that began or ended so."),
            visits=count("That began so; of `exit_page`, that ended there."),
        ),
        "Compared": answer(
            campaign=ref("CampaignId"),
            name=text("Of the campaign."),
            totals={"anyOf": [ref("EmailTotals"), ref("WebTotals")]},
            open_rate=or_null({"type": "object"}, "As in `Stats`."),
            over={"type": "boolean", "description": "As in `Stats`."},
            closed_at=or_null(instant(""), "As in `Stats`."),
            to_first=or_null(
                answer(
                    difference={"type": "number", "description": "Of the rates `low`: this less the first."},
                    interval=array({"type": "number"}, minItems=2, maxItems=2, description="95 %."),
                    p_value={"type": "number", "minimum": 0, "maximum": 1},
                    significant={"type": "boolean", "description": "More than chance: below 0.05."},
                    method=text("Of interval and test."),
                ),
                "Null: the first itself, or one of the two has no rate.",
            ),
        ),
        "InOverview": answer(
            ("unique_opens", "unique_visitors"),
            campaign=ref("CampaignId"),
            name=text("Of the campaign."),
            kind=choice(("email", "web"), "Of the campaign."),
            created=instant("When it was made."),
            sent=or_null(count(""), "As in `Stats`."),
            open_rate=or_null({"type": "object"}, "As in `Stats`."),
            over={"type": "boolean", "description": "As in `Stats`."},
            unique_opens=or_null(count(""), "Of mail, of all time, as in `Stats`."),
            unique_visitors=or_null(count(""), "Of pages, of all time, as in `Stats`."),
            days=array(
                or_null(count(""), "Null: not kept any more."),
                minItems=overview.DAYS,
                maxItems=overview.DAYS,
                description="Opens, or views of pages, of its last days, in its own zone; the last is today.",
            ),
            last_hit=or_null(instant(""), "As in `Stats`."),
        ),
        "HitToExplain": taken(
            ("user_agent", "ip"),
            user_agent=text("As sent.", maxLength=body.MAX_TEXT),
            ip=text("The client's address.", anyOf=[{"format": "ipv4"}, {"format": "ipv6"}]),
            headers={
                "type": "object",
                "maxProperties": 100,
                "propertyNames": {"maxLength": body.MAX_TEXT},
                "additionalProperties": {"type": "string", "maxLength": body.MAX_TEXT},
                "description": "Others; `Referer` and `Sec-Purpose` matter.",
            },
            delay={
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": body.MAX_DELAY,
                "description": "Seconds from sending to this open; null: not known.",
            },
        ),
        "Explanation": answer(
            verdict=choice(CLASSES, "What it would be taken for."),
            rule=text("The id of the rule that says so; `none`."),
            source=text("Where that rule is from."),
            ruleset=text("The version of the rules."),
            networks=array(text("A list that holds the address.")),
            soon_seconds=count("Opens within so many seconds of sending are scanners'."),
        ),
        "OfClass": answer(
            hits=figure("Of this class."),
            recipients=or_null(
                count(""), "With an open of this class, `proxy` under `person`; null where not known."
            ),
        ),
        "Estimate": {
            "anyOf": [
                answer(
                    method={"const": "HyperLogLog"},
                    standard_error={
                        "const": hyperloglog.STANDARD_ERROR,
                        "description": "As a fraction of the figure.",
                    },
                ),
                answer(
                    method={"const": "histogram"},
                    relative_error={"type": "number", "description": "At most, as a fraction of the figure."},
                ),
            ]
        },
        "OpensOf": answer(name=text("`(unknown)`, and `(other)` for the rest."), opens=count("By people.")),
        "Stats": answer(
            **{"campaign": ref("CampaignId")},
            **{"from": or_null(instant(""), "In the range; null: all time.")},
            to=or_null(instant(""), "End of the range, not in it; null: all time."),
            interval=choice(ranges.INTERVALS, "Of `series`."),
            time_zone=ref("TimeZone"),
            as_of=instant("Every hit that reached the stream before this is counted."),
            late_since=or_null(
                instant(""), "Hits since then wait on disk, for Redis was away; null: none wait there."
            ),
            totals={"anyOf": [ref("EmailTotals"), ref("WebTotals")]},
            sent=or_null(
                count(""),
                "The campaign's `sent`; without it, how many recipients had links made with `sent`. In modes "
                "`count` and `last` each call counts them anew.",
            ),
            delivered=or_null(count(""), "`sent` less `bounced`; null: not known."),
            rules=or_null(
                {"type": "object", "additionalProperties": count("")},
                "Hits by the id of the rule that judged them. Null in a range.",
            ),
            rulesets=or_null(
                array(
                    answer(ruleset=text(""), **{"from": instant("First judged.")}, to=instant("Last judged."))
                ),
                "Versions of the rules that judged its hits. Null in a range.",
            ),
            opens_person_by=or_null(
                answer(
                    client=array(ref("OpensOf"), description="Mail program, or the browser of a webmail."),
                    device=array(ref("OpensOf"), description="`desktop`, `phone`, `tablet`. No proxies."),
                    country=array(ref("OpensOf"), description="ISO 3166-1, by address. No proxies."),
                ),
                f"Opens by people, or proxies for them; the {stats.MOST_NAMES} with most of each. Kept by "
                f"day of the campaign's zone: null in a range of over {stats.MOST_DAYS_OF_OPENS} days or by "
                "anything else, in a mode that tells no recipients apart, and for pages.",
            ),
            time_on_page=or_null(
                answer(views=count("That were measured."), **quartiles),
                "Of a web campaign, in seconds: what `p.js` reported visible, else the time to the next view "
                "of the visit. Null as `opens_person_by`, or when nothing was measured.",
            ),
            time_of_visit=or_null(
                answer(visits=count("Of more than one instant."), **quartiles),
                "In seconds, from the first to the last that was heard of the visit; null likewise.",
            ),
            bounce_share=or_null(rate, "`bounces` of `visits`."),
            visitor_unit={
                "enum": ["visitors", "visitor-days", None],
                "description": "What `unique_visitors` are: without a cookie the same one is another each "
                "day. Null: of mail.",
            },
            time_to_open=or_null(
                answer(
                    recipients=count("Whose first open by a person lies in the range."),
                    **quartiles,
                ),
                "Seconds from sending to the first open by a person. Null as above, or when no time of "
                "sending was known as they were counted: neither the links' `sent_at` nor the campaign's.",
            ),
            verdicts={
                "type": "object",
                "description": "What the hits were, by class.",
                "properties": {name: ref("OfClass") for name in CLASSES},
                "required": list(CLASSES),
            },
            open_rate=or_null(
                answer(
                    low=rate,
                    high=rate,
                    estimate=or_null({"type": "number"}, "Null: too few are visible, or in a range."),
                    interval=or_null(array(rate, minItems=2, maxItems=2), "95 %; null with `estimate`."),
                    method=or_null(text(""), "How the estimate was made; null with it."),
                ),
                "Shares of mails `delivered`. `low`: recipients with an open by a "
                "person, or a proxy for one. `high`: with any open, and anonymous opens on top. `estimate`: "
                "for those whose client hides them (Apple), as for the others; an assumption. Of 100 "
                "delivered, 60 hidden of whom 3 read elsewhere too, 10 openers among the 40 others and 2 "
                "more by scanners alone: low 0.13, high 0.72, estimate 0.25, interval 0.16 to 0.37. "
                "Of who withdrew, has links of mode `off`, or asks not to be followed where that is dropped, "
                "mails are delivered but no open is known: `high` and `estimate` are too low by their share. "
                "Null: nothing `delivered`, more openers than delivered, or nobody is told apart.",
            ),
            last_hit=or_null(
                instant(""),
                "Of all time, whatever the range; null: none, or not known of one counted long ago.",
            ),
            closed_at=or_null(instant(""), "Since when opens add to no unique figure; null: they do."),
            over={"type": "boolean", "description": "More recipients opened than mails were `delivered`."},
            clipped=or_null(
                answer(share=rate, of=count("For whom a person, or a proxy for one, loaded the upper one.")),
                "Of mails with two pixels, those whose lower one never came: Gmail shows 102 KB of a mail. "
                "Null in a range, for pages, where nobody is told apart, and while no upper one was loaded.",
            ),
            series=array({"anyOf": [ref("EmailInterval"), ref("WebInterval")]}),
            notes=array(ref("Note"), description="Those in the range of `series`, in order of time."),
            estimates={
                "type": "object",
                "description": "Which figures of `totals` are estimates, and how good.",
                "additionalProperties": ref("Estimate"),
            },
        ),
    }


def _shared(kind: Schema) -> dict[str, Schema]:
    """What a key of the scope `read:CAMPAIGN` is shown."""

    def figure(what: str) -> Schema:
        return or_null(count(""), f"{what} Null where it is withheld or not known.")

    email = {
        "opens": figure("GETs of a pixel that counts as an open."),
        "unique_opens": figure("Recipients whose first open lies in the day."),
    }
    visitors = figure("Estimate. In `totals`, of cookieless campaigns only: visitor-days.")
    web = {
        "views": figure("GETs of the pixel."),
        "visits": figure("Of pages."),
        "unique_visitors": visitors,
    }
    start = text("The day's first instant, with the zone's offset.", format="date-time")
    return {
        "SharedCampaign": answer(
            id=ref("CampaignId"), name=text("For people."), kind=kind, time_zone=ref("TimeZone")
        ),
        "SharedStats": answer(
            ("opens_person_by",),
            campaign=ref("CampaignId"),
            **{"from": instant("In the range.")},
            to=instant("End of the range, not in it."),
            interval={"const": "day"},
            time_zone=ref("TimeZone"),
            min_cell=count("What is of fewer visits (or opens) on a day is withheld."),
            totals={
                "anyOf": [answer(**email), answer(("visits",), **web)],
                "description": "Sums of `series`, as far as it is shown.",
            },
            series=array({"anyOf": [answer(start=start, **email), answer(("visits",), start=start, **web)]}),
            opens_person_by=or_null(
                answer(client=array(ref("OpensOf"), description="Small ones are in `(other)`.")),
                f"Of mails; null in a range of over {stats.MOST_DAYS_OF_OPENS} days, or where not known.",
            ),
            estimates={"type": "object", "additionalProperties": ref("Estimate")},
        ),
    }
