"""Lists of recipients as files: CSV or NDJSON."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse

from pixel_server.dashboard import render
from pixel_server.figures import recipients
from pixel_server.figures.recipients import AsCsv, Parts, Row


async def file_of(parts: Parts, as_csv: AsCsv, name: str) -> Response:
    """Returns all rows as a file. name: of the file; it ends in .csv or .ndjson."""
    # Reads the first rows before the response begins, so that a store failure gives an error page.
    parts = _chain(await anext(parts, (0, [])), parts)
    is_csv = name.endswith(".csv")
    return StreamingResponse(
        as_csv(parts) if is_csv else recipients.ndjson(parts),
        headers={**render.headers(), "Content-Disposition": f'attachment; filename="{name}"'},
        media_type="text/csv; charset=utf-8" if is_csv else "application/x-ndjson",
    )


async def _chain(first: tuple[int, list[Row]], others: Parts) -> Parts:
    yield first
    async for part in others:
        yield part
