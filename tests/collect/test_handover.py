"""Handover: which process answers a request, and how the connection gets to it."""

from __future__ import annotations

import os
import socket

import pytest

from pixel_server.collect.handover import INLINE_BYTES, Channel, Side, is_for_pixel_process, side_of

HTTP = b" HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "start",
    [
        b"GET /o/token.gif" + HTTP,
        b"HEAD /p/site.gif?u=https://example.org/" + HTTP,
        b"GET /p.js" + HTTP,
        b"GET /healthz" + HTTP,
        b"GET /px/readyz" + HTTP,
        b"GET /px/o/token.gif" + HTTP,
        b"GET /%6f/token.gif" + HTTP,
        b"GET http://pixel.test/o/token.gif" + HTTP,
        b"POST /p/site.gif" + HTTP,
        b"POST /api/campaigns" + HTTP,
        b"POST /privacy" + HTTP,
        b"DELETE /api/keys/1" + HTTP,
        b"\r\nGET /o/token.gif" + HTTP,
        b"\x16\x03\x01\x00",
        b"nonsense\r\n",
        b"\r\n",
    ],
)
def test_side_of_pixels_writes_and_nonsense_is_pixels(start: bytes):
    assert side_of(start, b"/px") is Side.PIXELS


@pytest.mark.parametrize(
    "start",
    [
        b"GET /" + HTTP,
        b"GET /api/openapi.json" + HTTP,
        b"HEAD /s/token/stats.json?from=2016-12-01" + HTTP,
        b"GET /px/campaigns/site" + HTTP,
        b"GET http://pixel.test/api/keys" + HTTP,
        b"GET /privacy?t=token" + HTTP,
        b"POST /sign-in" + HTTP,
        b"POST /px/sign-in" + HTTP,
        b"POST /in/ses/secret" + HTTP,
        b"POST /px/in/ses/secret" + HTTP,
        b"POST /api/campaigns/spring/deliveries" + HTTP,
        b"GET /px" + HTTP,
        b"GET /" + b"x" * 5000,
    ],
)
def test_side_of_reads_and_sign_in_is_pages(start: bytes):
    assert side_of(start, b"/px") is Side.PAGES


@pytest.mark.parametrize(
    "start", [b"G", b"GET", b"GET ", b"GET /", b"GET /o", b"GET /o/to", b"GET http://x/", b"GET /\xc3"]
)
def test_side_of_too_little_is_undecided(start: bytes):
    assert side_of(start, b"") is None


def test_is_for_pixel_process_page_with_similar_path_is_false():
    assert not is_for_pixel_process(b"/overview", b"")
    assert not is_for_pixel_process(b"/healthz/more", b"")


@pytest.fixture
def channels():
    ends = Channel.pair()
    yield tuple(map(Channel, ends))
    for end in ends:
        end.close()


@pytest.mark.parametrize("size", [10, INLINE_BYTES, INLINE_BYTES + 1, 250_000])
def test_channel_send_connection_and_bytes_arrive(channels, size: int):
    left, right = channels
    client, server = socket.socketpair()
    data = os.urandom(size)
    assert left.send(server.fileno(), data)
    server.close()
    connection, received = right.receive()
    assert received == data
    connection.sendall(b"here")
    assert client.recv(10) == b"here"
    assert right.receive() is None
    for each in (client, connection):
        each.close()


def test_channel_send_without_room_is_refused(channels):
    left, right = channels
    client, server = socket.socketpair()
    sent = 0
    while left.send(server.fileno(), b"x" * INLINE_BYTES):
        sent += 1
        assert sent < 10_000
    assert sent > 2
    received = 0
    while (message := right.receive()) is not None:
        message[0].close()
        received += 1
    assert received == sent
    client.close()
    server.close()


def test_channel_receive_after_the_other_end_closed_raises(channels):
    left, right = channels
    left._end.close()
    with pytest.raises(EOFError):
        right.receive()
