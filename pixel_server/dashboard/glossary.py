"""What each figure is: shown beside it, on hover and on focus. What lists of figures are called."""

from __future__ import annotations

DEFINITIONS = {
    "open_rate": (
        "The share of mails delivered that were read. It is not below the low end: so many were opened by a "
        "person. It is not above the high end: no more had any open. Between them are those whose mail "
        "program hides its reader, as it loads all images itself."
    ),
    "estimate": (
        "The share that read if those who are hidden read as often as the others, with a 95 % interval. "
        "There is none where too few are visible."
    ),
    "unique_opens_person": "Recipients with an open by a person, or by a proxy for one (Gmail, Yahoo).",
    "unique": (
        "Of a mailing, recipients with an open by a person, or by a proxy for one. Of a web site, different "
        "visitors; without a cookie, those of each day, added up."
    ),
    "unique_opens": (
        "Recipients with any open, by a person or by a machine. In a range: whose first open lies in it."
    ),
    "opens": "How often the image of a mail was fetched, by persons and machines.",
    "opens_anonymous": "Opens of which nothing is kept that tells recipients apart.",
    "sent": "Mails sent, as you said or as links were made for.",
    "delivered": "Mails sent, less those that bounced.",
    "hits": "All recorded requests for a pixel, whoever made them.",
    "hits_gpc": "Hits of those who ask not to be followed (Sec-GPC or DNT).",
    "dropped_gpc": "Requests of those who ask not to be followed, of which nothing is kept.",
    "dropped_opted_out": "Requests of browsers that opted out, of which nothing is kept.",
    "refused_origin": "Reports that came from a page of another origin than yours.",
    "unique_ips": "Different network addresses, within 0.8 %. The addresses themselves are not kept.",
    "unique_visitors": "Different visitors, within 0.8 %.",
    "visitor-days": (
        "Different visitors of each day, added up, within 0.8 %: without a cookie nobody is known again on "
        "another day."
    ),
    "views": "Pages seen by persons.",
    "views_bot": "Pages fetched by bots, which are in no other figure but hits.",
    "views_no_visitor": "Views of which it is not known whose they were.",
    "views_no_visit": "Views that came too late to belong to a visit.",
    "visits": "One visitor's views without a pause of 30 minutes.",
    "visits_new": "Visits of those who were never here before.",
    "visits_returning": "Visits of those who were here before.",
    "bounces": "Visits of one view.",
    "bounce_share": "The share of visits that saw one page and left.",
    "time_on_page": "How long half of the views that were measured lasted, at most. Within 5 %.",
    "time_of_visit": "How long half of the visits that were measured lasted, at most. Within 5 %.",
    "time_to_open": (
        "From sending to the first open by a person, for those whose time of sending is known. Within 5 %."
    ),
    "verdicts": (
        "What each hit was taken for when it was counted. It is a label: nothing is thrown away for it."
    ),
    "person": "A mail program or a browser.",
    "proxy": "A person, through the image proxy of Gmail, Yahoo and the like.",
    "prefetch": "Loaded by a machine, read or not: Apple's Mail Privacy Protection, Gmail's prefetch.",
    "scanner": "Mail gateways, bots, libraries, opens at once after sending, and bursts.",
    "own": "Your own trial mails and networks.",
    "unknown": "None of these.",
    "last_hit": "When the newest hit came that is counted.",
    "time_to_open_median": (
        "Within how long of sending half of those who opened had their first open by a person, of those "
        "whose time of sending is known. Within 5 %."
    ),
    "visitors": (
        "Different visitors, within 0.8 %. Without a cookie, or an id of your own, they are different "
        "visitors of each day, added up."
    ),
    "against": (
        "How far the share that a person opened lies from the first campaign's, with its 95 % interval, "
        "among those whose mail program does not hide it. More than chance: of two mailings alike, less than "
        "one pair in 20 would be so far apart. All recipients are taken for different people."
    ),
    "against_bounces": (
        "How far the share of bounces lies from that of the first campaign, with its 95 % interval. More "
        "than chance: of two sites alike, less than one pair in 20 would be so far apart, if each visit were "
        "another person's. As some come more than once, it is a rough guide."
    ),
    "notes": "What you keep of a day, so that a curve explains itself.",
    "trend": "Opens or views of each of the last 14 days.",
}

TITLES = {
    "page": "Pages",
    "entry_page": "Entry pages",
    "exit_page": "Exit pages",
    "referrer": "Referrers",
    "referrer_kind": "Kinds of referrer",
    "utm_source": "UTM source",
    "utm_medium": "UTM medium",
    "utm_campaign": "UTM campaign",
    "country": "Countries",
    "browser": "Browsers",
    "system": "Systems",
    "device": "Devices",
    "language": "Languages",
    "client": "Mail programs",
}
"""Of breakdowns, by dimension."""
