"""Pages of lists: the parameters `after` and `limit` of every list, and the cursor of the next page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pixel_server.api.fields import MAX_PAGE_SIZE, PAGE_SIZE
from pixel_server.api.openapi.values import text
from pixel_server.api.routing import Parameter
from pixel_server.problems import BAD_CURSOR, bad_parameters

Item = TypeVar("Item")


class Page(NamedTuple):
    """The page that a query requests. after: the cursor from the page before, or None for the first page."""

    after: str | None
    limit: int


class Paging(NamedTuple):
    """The pages of one list. cursor_pattern: regular expression of its cursors. default_limit: number of
    items on a page if a query has no `limit`.
    """

    cursor_pattern: str
    default_limit: int = PAGE_SIZE

    @property
    def parameters(self) -> tuple[Parameter, Parameter]:
        return (
            Parameter("after", text("`next` of the page before.", pattern=f"^{self.cursor_pattern}$")),
            Parameter(
                "limit",
                {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_PAGE_SIZE,
                    "default": self.default_limit,
                    "description": "Largest number of items of the page.",
                },
            ),
        )

    def parse(self, query: Mapping[str, str], errors: Sequence[dict[str, Any]] = ()) -> Page:
        """Returns the page that a query requests.

        errors: errors of other parameters. Raises Problem 422 with all errors if there are any, or if `after`
        or `limit` is bad.
        """
        after, digits = query.get("after"), query.get("limit", str(self.default_limit))
        limit = int(digits) if re.fullmatch("[0-9]{1,5}", digits, re.ASCII) else 0
        all_errors = [*errors]
        if not 1 <= limit <= MAX_PAGE_SIZE:
            message = f"must be a whole number from 1 to {MAX_PAGE_SIZE}"
            all_errors.append({"field": "limit", "message": message})
        if after is not None and not re.fullmatch(self.cursor_pattern, after, re.ASCII):
            all_errors.append(BAD_CURSOR)
        if all_errors:
            raise bad_parameters(all_errors)
        return Page(after, limit)


BY_NUMBER = Paging("[0-9]{1,9}", MAX_PAGE_SIZE)
"""Pages of a list in any fixed order. A cursor is the number of items before the next page."""
BY_TIME = Paging("[0-9]{1,12}-[0-9a-f]{1,32}", MAX_PAGE_SIZE)
"""Pages of a list in order of time. A cursor is the time (s) and the id of a page's last item:
`1796040000-5f0c9a3be1d2`."""


def cut_by_number(items: Sequence[Item], page: Page) -> tuple[list[Item], str | None]:
    """Returns (the items of a page, the cursor of the next page or None). items: the whole list."""
    start = int(page.after or 0)
    end = start + page.limit
    return list(items[start:end]), str(end) if end < len(items) else None


def cut_by_time(
    items: Sequence[Item], page: Page, time_and_id: Callable[[Item], tuple[int, str]]
) -> tuple[list[Item], str | None]:
    """Returns (the items of a page, the cursor of the next page or None). items: the whole list."""
    ordered = sorted(items, key=time_and_id)
    if page.after is not None:
        time, _, id_ = page.after.partition("-")
        ordered = [item for item in ordered if time_and_id(item) > (int(time), id_)]
    shown = ordered[: page.limit]
    if len(shown) == len(ordered):
        return shown, None
    time_of_last, id_of_last = time_and_id(shown[-1])
    return shown, f"{time_of_last}-{id_of_last}"
