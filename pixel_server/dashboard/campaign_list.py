"""`/`: the list of campaigns: a table of mailings and a table of web sites, with a few figures of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import KINDS, Kind, UnreadableCampaign, report_unreadable
from pixel_server.campaigns.tags import is_tag, key
from pixel_server.dashboard import render, svg
from pixel_server.figures import overview
from pixel_server.figures.overview import Overview, Query


class Column(NamedTuple):
    """A column of a table.

    sort: the value of `sort` that a click on the head sets, "" if the head sorts nothing. definition: name of
    its definition in the glossary. short: its label on a phone, "" if it is the same.
    """

    label: str
    sort: str
    definition: str
    is_number: bool = False
    short: str = ""


_NAME = Column("Name", "name", "")
COLUMNS: dict[Kind, tuple[Column, ...]] = {
    "email": (
        _NAME,
        Column("Sent on", "-sent_at", "sent_at"),
        Column("Sent to", "-sent", "sent", is_number=True),
        Column("Open rate", "-rate", "open_rate"),
        Column("Opened by people", "-uniques", "unique_opens_person", is_number=True, short="By people"),
    ),
    "web": (
        _NAME,
        Column("Visitors, all time", "-uniques", "visitors", is_number=True, short="All visitors"),
        Column("Views, all time", "-views", "views", is_number=True, short="All views"),
        Column("14 days", "", "trend"),
        Column("Last view", "-last_hit", "last_hit", is_number=True),
    ),
}
TITLES: dict[Kind, str] = {"email": "Mailings", "web": "Sites"}
DEFAULT_SORTS: dict[Kind, str] = {"email": "-sent_at", "web": "-last_hit"}
PREVIEW_ROWS = 25
"""Largest number of rows of each table if the page has two tables."""


async def show(api: Api, request: Request) -> Response:
    if request.state.has_shared_key:
        return await _shared(api, request)
    query, page = _query(request.query_params), _page_number(request.query_params.get("page", "1"))
    totals = await _count(api, query)
    kinds = [kind for kind in KINDS if query.kind in (kind, None) and totals[kind]]
    limit = PREVIEW_ROWS if len(kinds) > 1 else overview.PAGE_SIZE
    page = 1 if len(kinds) > 1 else page
    tables = []
    as_of, tags = api.clock(), []
    for kind in kinds:
        sort = query.sort if query.sort in _sorts(kind) else DEFAULT_SORTS[kind]
        own_query = query._replace(kind=kind, sort=sort)
        start = (page - 1) * limit
        listing = await overview.read(
            *(api.store, api.settings, api.consent, own_query, api.clock(), start, limit)
        )
        tables.append(_table(own_query, listing, page, limit))
        as_of, tags = min(as_of, listing.as_of), listing.tags
    every = query._replace(text="", tag=None)
    of_all = totals if query == every else await _count(api, every)
    context = {
        "tables": [table for table in tables if table["rows"]],
        "tabs": _tabs(query, totals) if all(of_all.values()) else [],
        "total": sum(totals.values()),
        "as_of": as_of,
        "query": query,
        "page": page,
        "tags": [
            {"tag": tag, "count": count, "is_chosen": query.tag is not None and key(tag) == key(query.tag)}
            for tag, count in tags
        ],
        "link": lambda **changed: link(query, **changed),
    }
    return render.page(api, request, "list.html", context)


async def _count(api: Api, query: Query) -> dict[Kind, int]:
    """Returns the number of campaigns of each kind that match a query, whatever kind the query names."""
    return await overview.count_by_kind(api.store, api.settings, api.consent, query, api.clock())


def _query(params: Mapping[str, str]) -> Query:
    """Returns what the address of the page asks for. Ignores values that no link of the page has."""
    text = params.get("q", "").strip()[: overview.MAX_QUERY_CHARACTERS]
    kind, tag = params.get("kind"), params.get("tag", "").strip()
    return Query(
        text,
        params.get("sort", ""),
        kind if kind in KINDS else None,
        tag if is_tag(tag) else None,
    )


def _page_number(text: str) -> int:
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def _sorts(kind: Kind) -> set[str]:
    """Returns the values of `sort` that the heads of a table set: each in both directions."""
    names = {column.sort.removeprefix("-") for column in COLUMNS[kind] if column.sort}
    return names | {f"-{name}" for name in names}


def link(query: Query, **changed: Any) -> str:
    """Returns the address of the list with changed parameters: `"?q=spring&kind=email"`."""
    values = {"q": query.text, "tag": query.tag, "kind": query.kind, "sort": query.sort, **changed}
    return "?" + urlencode({name: value for name, value in values.items() if value})


def _table(query: Query, listing: Overview, page: int, limit: int) -> dict[str, Any]:
    """Returns the table of one kind. query: with this kind, and with the table's sort."""
    assert query.kind is not None
    kind: Kind = query.kind
    return {
        "kind": kind,
        "title": TITLES[kind],
        "heads": [_head(query, column) for column in COLUMNS[kind]],
        "rows": [
            {
                "row": row,
                "rate": svg.open_rate_bar(row.rate),
                "spark": svg.spark(row.days),
                "sum": sum(day or 0 for day in row.days),
            }
            for row in listing.rows
        ],
        "total": listing.total,
        "page_count": max(1, -(-listing.total // limit)),
        "previous": link(query, page=page - 1) if page > 1 else "",
        "next": link(query, page=page + 1) if listing.end < listing.total else "",
        "all": link(query),
    }


def _head(query: Query, column: Column) -> dict[str, Any]:
    """Returns the head of a column. Its link sorts by the column, or reverses the order."""
    name = column.sort.removeprefix("-")
    is_sorted = bool(name) and query.sort.removeprefix("-") == name
    is_descending = query.sort.startswith("-")
    reverse = name if is_descending else f"-{name}"
    return {
        "label": column.label,
        "short": column.short,
        "definition": column.definition,
        "is_number": column.is_number,
        "link": link(query, sort=reverse if is_sorted else column.sort) if name else "",
        "sorted": ("descending" if is_descending else "ascending") if is_sorted else "",
    }


def _tabs(query: Query, totals: Mapping[Kind, int]) -> list[dict[str, Any]]:
    """Returns the links to all campaigns, to mailings and to sites, with the number of those that match."""
    every = {"label": "All", "link": link(query, kind=None, sort=None), "is_current": query.kind is None}
    return [
        every,
        *(
            {
                "label": f"{TITLES[kind]} {totals[kind]:,}",
                "link": link(query, kind=kind, sort=None),
                "is_current": query.kind == kind,
            }
            for kind in KINDS
        ),
    ]


async def _shared(api: Api, request: Request) -> Response:
    """Returns the list of the campaigns whose shared figures this session may see."""
    campaigns = []
    for campaign_id in request.state.session.shared_campaigns:
        try:
            campaigns.append(await storage.get(api.store, campaign_id))
        except storage.UnknownCampaign:
            continue
        except UnreadableCampaign as error:
            report_unreadable(error)
    return render.page(api, request, "shared_list.html", {"campaigns": campaigns})
