"""Forms with a file (`multipart/form-data`): reads the fields before the file, then the file as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from pixel_server.api.request_form import MAX_FIELDS
from pixel_server.api.request_stream import BODY_TIMEOUT_SECONDS, BodyError

MAX_FIELD_BYTES = 64 << 10
"""Largest number of bytes of all fields before the file."""


class FileForm:
    """A form whose last field is a file of any length. Only one chunk of the file is in memory.

    fields: first value of each field before the file. Bytes that are not UTF-8 become U+FFFD.
    """

    def __init__(self, request: Request) -> None:
        """Raises BodyError if the request has another content type."""
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise BodyError(415, "was not sent as multipart/form-data")
        self._stream = request.stream()
        self._values: dict[str, bytes] = {}
        self._header = self._header_value = b""
        self._name: str | None = None
        self._has_file = self._is_in_file = False
        self._file = bytearray()
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
            },
        )

    @property
    def fields(self) -> dict[str, str]:
        return {name: value.decode("utf-8", "replace") for name, value in self._values.items()}

    async def read_fields(self) -> dict[str, str]:
        """Returns the fields before the file.

        Raises BodyError if they are too long, come too late, are cut off, or cannot be read.
        """
        try:
            async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
                while not self._has_file and await self._read_chunk():
                    pass
        except TimeoutError:
            raise BodyError(408, f"did not come within {BODY_TIMEOUT_SECONDS:.0f} seconds") from None
        except ClientDisconnect:
            raise BodyError(400, "was cut off") from None
        return self.fields

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yields the bytes of the file. Raises ClientDisconnect if it is cut off, and BodyError."""
        while True:
            if self._file:
                yield bytes(self._file)
                self._file.clear()
            if not await self._read_chunk():
                return

    async def skip(self) -> None:
        """Reads the rest of the body, because browsers show no answer that comes before it is sent."""
        async for _ in self.chunks():
            pass

    async def _read_chunk(self) -> bool:
        """Parses the next chunk of the body. Returns False at its end."""
        async for chunk in self._stream:
            try:
                self._parser.write(chunk)
            except MultipartParseError:
                raise BodyError(400, "cannot be read as multipart/form-data") from None
            return True
        return False

    def _begin_part(self) -> None:
        self._name = None
        self._header = self._header_value = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            name = options.get(b"name", b"").decode("utf-8", "replace")
            if b"filename" in options and not self._has_file:
                self._has_file = self._is_in_file = True
            elif not self._has_file and name not in self._values:
                self._name = name
                self._values[name] = b""
                self._check_size()
        self._header = self._header_value = b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_in_file:
            self._file += data[start:end]
        elif self._name is not None:
            self._values[self._name] += data[start:end]
            self._check_size()

    def _check_size(self) -> None:
        if len(self._values) > MAX_FIELDS or sum(map(len, self._values.values())) > MAX_FIELD_BYTES:
            raise BodyError(
                413, f"has more than {MAX_FIELDS} fields, or more than {MAX_FIELD_BYTES:,} bytes in them"
            )

    def _end_part(self) -> None:
        self._is_in_file = False
