"""Definitions of the figures, which pages show on hover and on focus, and titles of the breakdowns."""

from __future__ import annotations

DEFINITIONS = {
    "open_rate": (
        "The share of delivered mails that were read. Low end: mails opened by people. High end: mails "
        "opened by people or by machines. The truth lies between them, because some mail programs load all "
        "images and so hide whether the mail was read."
    ),
    "estimate": (
        "The share of read mails if recipients with hidden opens read as often as all others, with its 95% "
        "interval. Not shown if too few recipients are visible."
    ),
    "unique_opens_person": (
        "Recipients with an open by a person, directly or through a mail provider (Gmail, Yahoo). Each "
        "recipient counts once. In a range: recipients whose first open by a person is in the range."
    ),
    "unique_opens": (
        "Recipients with an open by a person or by a machine. Each recipient counts once. In a range: "
        "recipients whose first open is in the range."
    ),
    "opens": "Times that a mail was opened, by people and by machines. Repeated opens count each time.",
    "opens_anonymous": "Opens that are stored without anything that tells recipients apart.",
    "sent_at": (
        "Day of sending, in the campaign's time zone. If it is not set, the day of the campaign's creation. "
        "Campaigns with neither a time of sending nor an open come last."
    ),
    "sent": (
        "Number of mails sent: the number that was entered, or the recipients that the mail service "
        "reported, or the number of recipients with links."
    ),
    "delivered": "Mails sent, without the mails that bounced.",
    "reported_delivered": "Recipients to whom the mail service delivered a mail.",
    "reported_bounced_hard": "Recipients whose mail came back for good: the address does not work.",
    "reported_bounced_soft": "Recipients whose mail was refused for now, and was not delivered later.",
    "reported_complained": "Recipients who reported a mail as spam.",
    "reported_unsubscribed": "Recipients who unsubscribed.",
    "hits": "All recorded requests for a pixel, by people and by machines.",
    "hits_gpc": "Requests by people who ask not to be tracked (Sec-GPC or DNT).",
    "dropped_gpc": "Requests by people who ask not to be tracked. Nothing about them is stored.",
    "dropped_opted_out": "Requests by browsers that opted out. Nothing about them is stored.",
    "refused_origin": "Requests that the script sent from pages of other web sites.",
    "unique_ips": "Different IP addresses, within 0.8%. The addresses themselves are not stored.",
    "unique_visitors": "Different visitors, within 0.8%.",
    "visitor-days": (
        "Different visitors of each day, added up, within 0.8%. Without a cookie, a visitor is not "
        "recognized on another day."
    ),
    "views": "Pages viewed by people.",
    "views_bot": "Pages requested by bots. No other figure except Requests includes them.",
    "views_no_visitor": "Views whose visitor is not known.",
    "views_no_visit": "Views that were reported too late to belong to a visit.",
    "visits": "Views of one visitor with pauses of less than 30 minutes.",
    "visits_matching": "Visits that pass all filters. A visit that saw a page has views of other pages too.",
    "views_matching": "All views of the matching visits, also of pages that no filter names.",
    "visits_new": "Visits by visitors who were never here before.",
    "visits_returning": "Visits by visitors who were here before.",
    "bounces": "Visits with exactly one view.",
    "bounce_share": "The share of visits with exactly one view.",
    "time_on_page": "Half of the measured views lasted at most this long. Within 5%.",
    "time_of_visit": "Half of the measured visits lasted at most this long. Within 5%.",
    "time_to_open": (
        "Time from sending to the first open by a person, for recipients whose time of sending is known. "
        "Within 5%."
    ),
    "verdicts": (
        "The class of each request, decided when it was counted. No request is discarded because of its "
        "class."
    ),
    "person": "Mail programs and browsers of people.",
    "proxy": "People whose images are loaded through the image proxy of Gmail, Yahoo and others.",
    "prefetch": (
        "Images loaded by a machine, whether or not the mail is read: Apple's Mail Privacy Protection, "
        "Gmail's prefetch."
    ),
    "scanner": (
        "Mail gateways, bots, program libraries, requests right after sending, and bursts of requests."
    ),
    "own": "Requests from test mails and from networks of the sender.",
    "unknown": "Requests of no other class.",
    "last_hit": "Time of the newest counted request.",
    "time_to_open_median": (
        "Half of the recipients who opened had their first open by a person within this time after sending, "
        "for recipients whose time of sending is known. Within 5%."
    ),
    "visitors": (
        "Different visitors, within 0.8%. Without a cookie or an id of the site: the visitors of each day, "
        "added up."
    ),
    "against": (
        "The estimated open rate is the share opened by people among the recipients whose mail program does "
        "not hide opens. The counted share is of all delivered mails, so it is lower. Larger than chance: "
        "fewer than one in 20 pairs of equal mailings would differ this much. All recipients are taken as "
        "different people."
    ),
    "against_bounces": (
        "Difference between the bounce rate and the bounce rate of the first campaign, with its 95% "
        "interval. Larger than chance: fewer than one in 20 pairs of equal web sites would differ this "
        "much, if each visit were by a different person. Some people visit several times, so this is a "
        "rough guide."
    ),
    "notes": "Events that are recorded on a date, to explain changes in the chart.",
    "sample": (
        "A record of up to 1,000 visits of each day, chosen at random, is stored for 90 days. It names no "
        "visitor. Figures with filters are estimated from it; 19 of 20 estimates are as close as stated."
    ),
    "trend": "Opens or views on each of the last 14 days.",
}

CLASS_LABELS = {
    "person": "People, directly",
    "proxy": "People, through a mail provider",
    "prefetch": "Mail programs that load all images",
    "scanner": "Scanners and bots",
    "own": "Own tests",
    "unknown": "Not known",
}
"""Names of the classes of requests, as the page of a mailing shows them."""

DIMENSION_TITLES = {
    "page": "Pages",
    "entry_page": "Entry pages",
    "exit_page": "Exit pages",
    "referrer": "Referrers",
    "referrer_kind": "Kinds of source",
    "utm_source": "UTM source",
    "utm_medium": "UTM medium",
    "utm_campaign": "UTM campaign",
    "utm_term": "UTM term",
    "utm_content": "UTM content",
    "country": "Countries",
    "browser": "Browsers",
    "system": "Systems",
    "device": "Devices",
    "language": "Languages",
    "client": "Mail programs",
}
"""Titles of breakdowns, by dimension."""

DIMENSION_NAMES = {
    "page": "Page",
    "entry_page": "Entry page",
    "exit_page": "Exit page",
    "referrer": "Referrer",
    "referrer_kind": "Kind of source",
    "utm_source": "UTM source",
    "utm_medium": "UTM medium",
    "utm_campaign": "UTM campaign",
    "utm_term": "UTM term",
    "utm_content": "UTM content",
    "country": "Country",
    "browser": "Browser",
    "system": "System",
    "device": "Device",
    "language": "Language",
}
"""Names of one filter, by dimension."""
