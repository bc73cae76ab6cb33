"""Cases of raw requests, with their answers and hits, for every server of pixels.

Each case runs on a connection of its own. Answers with the image are exact, byte for byte, except for the
date. Hits are exact except for their time. For other answers a case knows the status only.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from pixel_server import hit
from pixel_server.collect.image import GIF
from pixel_server.collect.visitor_cookie import LIFETIME_SECONDS, Cookie
from pixel_server.collect.visitor_cookie import sign as sign_cookie
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.tokens import MAX_TIME, Mode, Token, sign

SECRET = "signing-key-of-the-corpus"
RECIPIENT_SECRET = "recipient-secret-of-the-corpus"
SITE, SHOP, FENCED, GONE = "site", "shop", "fenced", "gone"
WEB = {
    SITE: {"identity": "own"},
    SHOP: {"identity": "cookie"},
    FENCED: {"origins": ["https://a.example"]},
    GONE: {},
}
"""Web campaigns that the server must know. The last is deleted."""
WAIT = None
"""A part of a case that is not sent: the client waits for one more answer."""

_secrets = Secrets.derive((SECRET,), RECIPIENT_SECRET)
_ada = _secrets.recipient_key("ada")


class Answer(NamedTuple):
    """An answer. pixel: X-Pixel, None for an answer without image. body: whether the image is sent.

    close: whether the server closes the connection. more: further header lines; value and Max-Age of a cookie
    are `*`. shared: the header lines that allow other sites to read the answer.
    """

    status: bytes
    pixel: bytes | None = None
    body: bool = True
    close: bool = False
    more: bytes = b""
    shared: bytes = b"access-control-allow-origin: *\r\n"

    @property
    def head(self) -> bytes:
        """The bytes before the body, without the date, of an answer with the image."""
        return (
            b"HTTP/1.1 " + self.status + b"\r\n"
            b"content-type: image/gif\r\n"
            b"content-length: 43\r\n"
            b"cache-control: no-store, no-cache, must-revalidate, max-age=0, private\r\n"
            b"pragma: no-cache\r\n"
            b"expires: 0\r\n" + self.shared + b"cross-origin-resource-policy: cross-origin\r\n"
            b"x-content-type-options: nosniff\r\n"
            b"x-robots-tag: noindex\r\n"
            b"x-pixel: " + (self.pixel or b"") + b"\r\n" + self.more + b"connection: close\r\n" * self.close
        ) + b"\r\n"

    @property
    def content(self) -> bytes:
        return GIF if self.body else b""


RECORDED = Answer(b"200 OK", b"recorded")
SETS = RECORDED._replace(
    more=b"set-cookie: px_shop=*; Path=/p/; Max-Age=*; HttpOnly; Secure; SameSite=Lax\r\n"
)
SETS_ELSEWHERE = RECORDED._replace(
    more=b"set-cookie: px_shop=*; Path=/p/; Max-Age=*; HttpOnly; Secure; SameSite=None; Partitioned\r\n"
)
OUT = Answer(b"200 OK", b"ignored; reason=opted-out")
EXPIRED = Answer(b"200 OK", b"ignored; reason=expired")
IS_GONE = Answer(b"200 OK", b"ignored; reason=gone")
IS_OF_PAGES = Answer(b"200 OK", b"ignored; reason=kind")
OPTIONS = Answer(
    b"200 OK",
    b"ignored; reason=options",
    more=b"allow: GET, HEAD, OPTIONS\r\n"
    b"access-control-allow-methods: GET, HEAD, OPTIONS\r\n"
    b"access-control-max-age: 86400\r\n",
)
NOT_FOUND = Answer(b"404 Not Found", b"refused; reason=not-found")
BAD_TOKEN = Answer(b"404 Not Found", b"refused; reason=token")
NO_CAMPAIGN = Answer(b"404 Not Found", b"refused; reason=campaign")
BAD_METHOD = Answer(
    b"405 Method Not Allowed", b"refused; reason=method", more=b"allow: GET, HEAD, OPTIONS\r\n"
)
ELSEWHERE = Answer(b"404 Not Found")
BAD_BODY = Answer(b"400 Bad Request", b"refused; reason=body")
BAD_ORIGIN = Answer(b"403 Forbidden", b"refused; reason=origin")
LONG_BODY = Answer(b"413 Request Entity Too Large", b"refused; reason=body", close=True)
PREFLIGHT = Answer(
    b"200 OK",
    b"ignored; reason=options",
    more=b"allow: POST, OPTIONS\r\n"
    b"access-control-allow-methods: POST\r\n"
    b"access-control-allow-headers: content-type\r\n"
    b"access-control-max-age: 86400\r\n",
)
CONTINUE = Answer(b"100 Continue")
BAD_REQUEST = Answer(b"400 Bad Request", close=True)
TOO_LARGE = Answer(b"431 Request Header Fields Too Large", close=True)


def last(answer: Answer) -> Answer:
    """Returns the answer after which the server closes the connection."""
    return answer._replace(close=True)


def bare(answer: Answer) -> Answer:
    """Returns the answer to a HEAD."""
    return answer._replace(body=False)


def to(answer: Answer, origin: bytes = b"") -> Answer:
    """Returns the answer to a beacon from a page of this origin, or of any origin if it is empty."""
    shared = b"access-control-allow-origin: *\r\n"
    if origin:
        shared = b"access-control-allow-origin: " + origin + b"\r\naccess-control-allow-credentials: true\r\n"
    return answer._replace(shared=shared + b"vary: Origin\r\n")


def token(campaign: str = "mail", time: int = MAX_TIME, **more: Any) -> bytes:
    return sign(Token(campaign, time, **{"recipient": _ada, **more}), _secrets.signing[0]).encode()


T = token()
MAIL, PAGE, YES = b"/o/" + T + b".gif", b"/p/site.gif", b"/p/shop.gif?c=1"


def request(target: bytes = MAIL, *headers: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    lines = (method + b" " + target + b" HTTP/" + version, b"Host: pixel.test", *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def opened(campaign: str = "mail", method: str = "GET", **more: Any) -> Hit:
    fields = {"flags": Mode.PSEUDONYMOUS, "token_time": MAX_TIME, "recipient": _ada, **more}
    return Hit(0, campaign, hit.EMAIL, method, address=bytes([127, 0, 0, 1]), **fields)


def viewed(method: str = "GET", own: bytes = b"", **more: Any) -> Hit:
    visitor = _secrets.visitor_key(b"own", b"site", own) if own else b""
    return Hit(0, SITE, hit.WEB, method, visitor=visitor, address=bytes([127, 0, 0, 1]), **more)


def shopped(method: str = "GET", held: Cookie | None = None, **more: Any) -> Hit:
    """Returns a hit of the campaign with cookies. held: the cookie that was sent."""
    visitor = _secrets.visitor_key(b"cookie", b"shop", held.id) if held else b""
    return Hit(0, SHOP, hit.WEB, method, visitor=visitor, address=bytes([127, 0, 0, 1]), **more)


def cookie(held: Cookie, campaign: str = SHOP, secrets: Secrets = _secrets) -> bytes:
    return b"Cookie: px_shop=" + sign_cookie(held, campaign, secrets.cookies[0])


NOW = int(time.time())
ADA = Cookie(b"adasbrow", 3, NOW - 86_400, NOW - 7200, 2)
"""The cookie of a visitor who came yesterday, and two hours ago."""
_FRESH = b"<a cookie that was set just now>"


def filled(part: bytes) -> bytes:
    """Returns a part to send, with a cookie whose last hit is now in place of `_FRESH`."""
    if _FRESH not in part:
        return part
    return part.replace(_FRESH, cookie(ADA._replace(last=int(time.time()))))


def slices(data: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(data[i : i + size] for i in range(0, len(data), size))


def escaped(text: bytes) -> bytes:
    """Returns a text with each of its characters percent-encoded."""
    return b"".join(b"%%%02X" % byte for byte in text)


class Case(NamedTuple):
    """A case. send: the parts, each sent on its own. stays: whether the connection stays open afterwards."""

    name: str
    send: tuple[bytes | None, ...]
    answers: tuple[Answer, ...]
    hits: tuple[Hit, ...] = ()

    @property
    def stays(self) -> bool:
        return not (self.answers and self.answers[-1].close)


def case(
    name: str, send: bytes | tuple[bytes | None, ...], *answers: Answer, hits: tuple[Hit, ...] = ()
) -> Case:
    return Case(name, (send,) if isinstance(send, bytes) else send, answers, hits)


def ends(name: str, send: bytes | tuple[bytes | None, ...], answer: Answer = BAD_REQUEST) -> Case:
    """Returns a case with one answer and no hit, after which the server closes the connection."""
    return case(name, send, answer)


def not_found(path: bytes, answer: Answer = NOT_FOUND) -> Case:
    return case(f"not found: {path[:80]!r}", request(path), answer)


CHUNKED = b"Transfer-Encoding: chunked"
MB = b"a" * (1 << 20)
HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(190)

PLAIN = (
    case("an open", request(), RECORDED, hits=(opened(),)),
    case("a view", request(PAGE), RECORDED, hits=(viewed(),)),
    case("HEAD of a mail", request(method=b"HEAD"), bare(RECORDED), hits=(opened(method="HEAD"),)),
    case("HEAD of a page", request(PAGE, method=b"HEAD"), bare(RECORDED), hits=(viewed(method="HEAD"),)),
    case("HEAD of nothing", request(b"/o/bad.gif", method=b"HEAD"), bare(BAD_TOKEN)),
    case("OPTIONS", request(method=b"OPTIONS"), OPTIONS),
    case("POST", request(PAGE, b"Content-Length: 5", method=b"POST") + b"hello", BAD_METHOD),
    case("DELETE", request(method=b"DELETE"), BAD_METHOD),
    case("TRACE", request(method=b"TRACE"), BAD_METHOD),
    case("PROPFIND", request(method=b"PROPFIND"), BAD_METHOD),
    case("POST to nothing", request(b"/o/", b"Content-Length: 2", method=b"POST") + b"{}", NOT_FOUND),
    case("a campaign that is gone", request(b"/p/gone.gif"), IS_GONE),
    case("a mail that is gone", request(b"/o/" + token("gone") + b".gif"), IS_GONE),
    case("a mail of a campaign of pages", request(b"/o/" + token(SITE) + b".gif"), IS_OF_PAGES),
    case("an expired token", request(b"/o/" + token(time=1) + b".gif"), EXPIRED),
    case("a campaign nobody made", request(b"/p/none.gif"), NO_CAMPAIGN),
    case(
        "mode count",
        request(b"/o/" + token(recipient=b"", mode=Mode.COUNT) + b".gif"),
        RECORDED,
        hits=(opened(flags=Mode.COUNT, recipient=b""),),
    ),
    case(
        "every header that is kept",
        request(
            MAIL,
            b"User-Agent: Mail/1.0",
            b"referer: https://mail.example/",
            b"ACCEPT-LANGUAGE: de,en;q=0.5",
            b"Sec-GPC: 0",
            b"DNT:0",
            b"Sec-Purpose: prefetch",
            b"X-Moz: prefetch",
            b"Cookie: a=b",
            b"X-Forwarded-For: 203.0.113.66",
            b"If-None-Match: *",
            b"Range: bytes=0-1",
        ),
        RECORDED,
        hits=(
            opened(
                agent="Mail/1.0",
                referrer="https://mail.example/",
                language="de,en;q=0.5",
                gpc="0",
                dnt="0",
                purpose="sec-purpose=prefetch;x-moz=prefetch;",
            ),
        ),
    ),
    case(
        "headers sent twice",
        request(MAIL, b"User-Agent: A", b"DNT: 0", b"User-Agent: B", b"Host: other"),
        RECORDED,
        hits=(opened(agent="A,B", dnt="0"),),
    ),
    case(
        "asked not to be followed",
        request(MAIL, b"Sec-GPC: 1"),
        RECORDED,
        hits=(opened(flags=Mode.COUNT, recipient=b"", gpc="1", token_time=MAX_TIME - MAX_TIME % 86_400),),
    ),
    case(
        "a page, asked not to follow", request(PAGE + b"?v=ada", b"DNT: 1"), RECORDED, hits=(viewed(dnt="1"),)
    ),
    case("an empty header", request(MAIL, b"User-Agent:"), RECORDED, hits=(opened(),)),
    case("no Host", b"GET " + MAIL + b" HTTP/1.1\r\n\r\n", RECORDED, hits=(opened(),)),
    case(
        "headers longer than is kept",
        request(PAGE, *(name + b": " + b"a" * 5000 for name in (b"User-Agent", b"Accept-Language", b"DNT"))),
        RECORDED,
        hits=(viewed(agent="a" * hit.MAX_AGENT, language="a" * hit.MAX_LANGUAGE, dnt="a" * hit.MAX_SIGNAL),),
    ),
    case(
        "headers that are not UTF-8",
        request(PAGE, b"User-Agent: \xff\xfe", "Referer: https://x.example/é".encode()),
        RECORDED,
        hits=(viewed(agent="\ufffd\ufffd", referrer="https://x.example/é", page="https://x.example/é"),),
    ),
    case("close", request(MAIL, b"Connection: close"), last(RECORDED), hits=(opened(),)),
    case("keep-alive", request(MAIL, b"Connection: keep-alive"), RECORDED, hits=(opened(),)),
    case("HTTP/1.0", request(version=b"1.0"), last(RECORDED), hits=(opened(),)),
    case(
        "HTTP/1.0 that would go on",
        request(PAGE, b"Connection: keep-alive", version=b"1.0"),
        last(RECORDED),
        hits=(viewed(),),
    ),
    case("HTTP/1.0 to nothing", request(b"/p/none.gif", version=b"1.0"), last(NO_CAMPAIGN)),
    case("a whole address", request(b"http://pixel.test" + MAIL), RECORDED, hits=(opened(),)),
    case("another's address", request(b"http://other.test:99" + PAGE), RECORDED, hits=(viewed(),)),
    case("200 headers", request(MAIL, *(b"X-%d: a" % i for i in range(200))), RECORDED, hits=(opened(),)),
)

QUERIES = (
    case("a mail's query", request(MAIL + b"?x=1&u=2"), RECORDED, hits=(opened(),)),
    case("a mail's fragment", request(MAIL + b"#x"), RECORDED, hits=(opened(),)),
    case(
        "u, r and v",
        request(PAGE + b"?u=https://x.example/a%3Fb&r=https%3A%2F%2Fy.example&v=ada+l%40x"),
        RECORDED,
        hits=(viewed(own=b"ada l@x", page="https://x.example/a?b", page_referrer="https://y.example"),),
    ),
    case(
        "escapes of every kind",
        request(PAGE + b"?u=%C3%A9%ff%00%zz%&r=%2500&v=%ff"),
        RECORDED,
        hits=(viewed(own=b"\xff", page="é\ufffd\0%zz%", page_referrer="%00"),),
    ),
    case(
        "the first counts", request(PAGE + b"?u=a&u=b&v=1&v=2"), RECORDED, hits=(viewed(own=b"1", page="a"),)
    ),
    case("a query of nothing", request(PAGE + b"?&&=&u&v=&;"), RECORDED, hits=(viewed(),)),
    case("an empty query", request(PAGE + b"?"), RECORDED, hits=(viewed(),)),
    case(
        "a query with marks",
        request(PAGE + b"?u=a?b'(c)!*,[d]{e}|^`~\\\"<>"),
        RECORDED,
        hits=(viewed(page="a?b'(c)!*,[d]{e}|^`~\\\"<>"),),
    ),
    case("a query and a fragment", request(PAGE + b"?u=a#b"), RECORDED, hits=(viewed(page="a"),)),
    case(
        "a raw UTF-8 query",
        request("/p/site.gif?u=https://x.example/straße/寿司?q=ö&v=Žaneta".encode()),
        RECORDED,
        hits=(viewed(own="Žaneta".encode(), page="https://x.example/straße/寿司?q=ö"),),
    ),
    case(
        "a raw UTF-8 query, byte by byte",
        slices(request("/p/site.gif?u=/año".encode()), 1),
        RECORDED,
        hits=(viewed(page="/año"),),
    ),
    case(
        "a raw UTF-8 query, HEAD",
        request("/p/site.gif?u=/año".encode(), method=b"HEAD"),
        bare(RECORDED),
        hits=(viewed("HEAD", page="/año"),),
    ),
    case(
        "a raw UTF-8 query, HTTP/1.0",
        request("/p/site.gif?u=/año".encode(), version=b"1.0"),
        last(RECORDED),
        hits=(viewed(page="/año"),),
    ),
    case(
        "a raw UTF-8 query of a whole address",
        request("http://pixel.test/p/site.gif?u=/año".encode()),
        RECORDED,
        hits=(viewed(page="/año"),),
    ),
    case(
        "a raw Latin-1 query",
        request(PAGE + b"?u=/a\xf1o&v=\xff"),
        RECORDED,
        hits=(viewed(own=b"\xff", page="/a\ufffdo"),),
    ),
    case("a raw UTF-8 fragment", request(PAGE + "?u=a#é".encode()), RECORDED, hits=(viewed(page="a"),)),
    case("a mail with a raw UTF-8 query", request(MAIL + "?né".encode()), RECORDED, hits=(opened(),)),
    case(
        "a query of 60 KB",
        request(PAGE + b"?v=1&u=" + b"a" * 60_000),
        RECORDED,
        hits=(viewed(own=b"1", page="a" * hit.MAX_URL),),
    ),
)

PATHS = (
    *(
        not_found(path)
        for path in (
            b"/o",
            b"/o/",
            b"/p/",
            b"/p/.gif",
            b"/p/site",
            b"/p/site.gif/",
            b"/p/site.GIF",
            b"/o/..",
            b"/o/%2e%2e/",
            b"/o/%252e%252e/",
            b"/o/" + T + b".gif%00",
            b"/o/" + T + b".gif%0d%0a",
            b"/o/" + T + b".gif;x=.png",
            b"/o%2f" + T + b".gif",
        )
    ),
    *(
        not_found(path, BAD_TOKEN)
        for path in (
            b"/o/../o/" + T + b".gif",
            b"/o/%2e%2e/o/" + T + b".gif",
            b"/o/%2E%2e/" + T + b".gif",
            b"/o/./" + T + b".gif",
            b"/o//" + T + b".gif",
            b"/o/%2f" + T + b".gif",
            b"/o/%20" + T + b".gif",
            b"/o/" + T + b"%20.gif",
            b"/o/" + T + b"%00.gif",
            b"/o/" + T + b"=.gif",
            b"/o/" + T + b"%3D.gif",
            b"/o/" + T + b".gif.gif",
            b"/o/%%341" + T[1:] + b".gif",
            b"/o/" + T.swapcase() + b".gif",
            b"/o/" + T + b"%3F.gif",
            b"/o/" + T + b"%2B.gif",
            b"/o/" + T + b"%2.gif",
            b"/o/%25" + b"%02x" % T[0] + T[1:] + b".gif",
            b"/o/" + T[:-1] + b".gif",
            b"/o/" + T + b"A.gif",
            b"/o/" + token()[::-1] + b".gif",
            b"/o/" + MAIL,
        )
    ),
    *(
        not_found(path, NO_CAMPAIGN)
        for path in (
            b"/p/../p/site.gif",
            b"/p/%2e%2e/site.gif",
            b"/p/./site.gif",
            b"/p//site.gif",
            b"/p/SITE.gif",
            b"/p/%2573ite.gif",
            b"/p/site%00.gif",
            b"/p/site%0a.gif",
            b"/p/site%20.gif",
            b"/p/site.gif.gif",
            b"/p/%D1%95ite.gif",
            b"/p/s%C4%B1te.gif",
            b"/p/%EF%BD%93ite.gif",
            b"/p/site%E2%80%8B.gif",
            b"/p/mail.gif",
            b"/p/" + b"a" * 64 + b".gif",
            b"/p/" + b"a" * 60_000 + b".gif",
        )
    ),
    *(
        not_found(path, ELSEWHERE)
        for path in (b"//p/site.gif", b"/x/../p/site.gif", b"/./p/site.gif", b"/P/site.gif", b"/op/site.gif")
    ),
    not_found(b"/o/" + b"a" * 60_000 + b".gif", BAD_TOKEN),
    not_found(b"/o/" + b"/" * 60_000, NOT_FOUND),
    not_found(b"/p/" + b"%2e" * 20_000, NOT_FOUND),
    *(
        case(f"the same address: {target[:60]!r}", request(target), RECORDED, hits=(opened(),))
        for target in (
            b"/o/%" + b"%02x" % T[0] + T[1:] + b".gif",
            b"/o/" + escaped(T) + b".gif",
            b"/o/" + escaped(T).lower() + b".gif?x=%2D",
            b"/o/" + T + b"%2egif",
            b"/o/" + T + b"%2Egif",
            b"/%6f/" + T + b".gif",
            b"http://pixel.test/%6F/" + escaped(T) + b"%2Egif",
        )
    ),
    case(
        "HEAD of an escaped token",
        request(b"/o/" + escaped(T) + b".gif", method=b"HEAD"),
        bare(RECORDED),
        hits=(opened(method="HEAD"),),
    ),
    case(
        "escaped, with a body",
        request(b"/o/" + escaped(T) + b".gif", b"Content-Length: 2") + b"{}",
        RECORDED,
        hits=(opened(),),
    ),
    *(
        case(f"the same page: {target!r}", request(target), RECORDED, hits=(viewed(),))
        for target in (b"/p/%73ite.gif", b"/p/%73ite%2egif", b"/%70/site.gif")
    ),
    case("what is no request, behind one that is stored", request() + b"\0", BAD_REQUEST, hits=(opened(),)),
    ends("what is no request, behind two others", request(b"/x") + request(b"/y") + b"\0"),
    ends("a path of 70 KB", request(b"/o/" + b"a" * 70_000 + b".gif")),
    ends("a good path and 64 KB behind it", request(PAGE + b"a" * 65_536)),
    ends("a query of 70 KB", request(PAGE + b"?u=" + b"a" * 70_000)),
    ends("a raw UTF-8 query of 70 KB once encoded", request(PAGE + b"?u=" + "é".encode() * 12_000)),
    ends("a path of 10 MB", (b"GET /p/", *[MB] * 10)),
    not_found(b"/o/\xff.gif", BAD_TOKEN),
    not_found("/p/\N{CYRILLIC SMALL LETTER DZE}ite.gif".encode(), NO_CAMPAIGN),
    not_found("/ünknown".encode(), ELSEWHERE),
    ends("NUL in a path", request(b"/p/site\0.gif")),
    ends("NUL in a query", request(PAGE + b"?u=\0")),
    ends("a tab in a path", request(b"/p/site\t.gif")),
    ends("a control character in a query", request(PAGE + b"?u=\x01")),
    ends("DEL in a query", request(PAGE + b"?u=\x7f")),
    ends("a space in a path", request(b"/p/site .gif")),
    ends("no path", request(b"http://pixel.test")),
    ends("no slash", request(b"p/site.gif")),
    case("an asterisk", request(b"*", method=b"OPTIONS"), ELSEWHERE),
    ends("CONNECT", request(b"pixel.test:443", method=b"CONNECT")),
)

NO_REQUESTS = (
    ends("a method of nobody", request(method=b"BREW")),
    ends("a method in small letters", request(method=b"get")),
    ends("no method", b" " + MAIL + b" HTTP/1.1\r\n\r\n"),
    case("HTTP/0.9", b"GET " + MAIL + b"\r\n\r\n", last(RECORDED), hits=(opened(),)),
    ends("HTTP/1.2", request(version=b"1.2")),
    ends("HTTP/9.9", request(version=b"9.9")),
    ends("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ends("TLS", HELLO),
    ends("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ends("zeros", bytes(1000)),
    ends("noise", bytes(range(255, 127, -1)) * 8),
    ends("NUL in a header", request(MAIL, b"User-Agent: a\0b")),
    ends("NUL in a name", request(MAIL, b"User\0Agent: a")),
    ends("a name that is not ASCII", request(MAIL, b"X-\xe9: a")),
    ends("a header without a colon", request(MAIL, b"User-Agent")),
    ends("a space before the colon", request(MAIL, b"User-Agent : a")),
    ends("a folded header", request(MAIL, b"User-Agent: a\r\n b")),
    ends("a bare CR", request(MAIL, b"User-Agent: a\rX: b")),
    ends("a length of words", request(MAIL, b"Content-Length: ten")),
    ends("a length below zero", request(MAIL, b"Content-Length: -1")),
    ends("a length above all", request(MAIL, b"Content-Length: " + b"9" * 30)),
    ends("two lengths", request(MAIL, b"Content-Length: 1", b"Content-Length: 2") + b"a"),
    ends("a length and chunks", request(MAIL, b"Content-Length: 3", CHUNKED) + b"0\r\n\r\n"),
)

FLOODS = (
    ends("one header of 10 MB", (b"GET " + MAIL + b" HTTP/1.1\r\nX: ", *[MB] * 10), TOO_LARGE),
    ends("one name of 10 MB", (b"GET " + MAIL + b" HTTP/1.1\r\n", *[MB] * 10), TOO_LARGE),
    ends(
        "headers without end",
        (b"GET " + MAIL + b" HTTP/1.1\r\n", *[b"X-Flood: aaaaaaaaaaaaaaaa\r\n" * 40_000] * 10),
        TOO_LARGE,
    ),
    ends("empty lines without end", (*[b"\r\n" * 500_000] * 3,), TOO_LARGE),
    case(
        "trailers without end",
        (request(b"/o/bad.gif", CHUNKED), WAIT, b"0\r\n", *[b"X-Flood: aaaaaaaaaaaaaaaa\r\n" * 40_000] * 10),
        BAD_TOKEN,
        TOO_LARGE,
    ),
    case(
        "one trailer of 10 MB",
        (request(b"/o/bad.gif", CHUNKED), WAIT, b"0\r\nX: ", *[MB] * 10),
        BAD_TOKEN,
        TOO_LARGE,
    ),
    case(
        "a chunk's extension of 10 MB",
        (request(b"/o/bad.gif", CHUNKED), WAIT, b"1;", *[MB] * 10),
        BAD_TOKEN,
        TOO_LARGE,
    ),
    case(
        "a body of 10 MB",
        (request(MAIL, b"Content-Length: 10485760"), *[MB] * 10),
        RECORDED,
        hits=(opened(),),
    ),
    case(
        "10 MB in chunks",
        (request(MAIL, CHUNKED), *[b"100000\r\n" + MB + b"\r\n"] * 10, b"0\r\n\r\n"),
        RECORDED,
        hits=(opened(),),
    ),
)

BODIES = (
    case("a GET with a body", request(MAIL, b"Content-Length: 5") + b"hello", RECORDED, hits=(opened(),)),
    case(
        "a body that is a request",
        request(MAIL, b"Content-Length: %d" % len(request(PAGE))) + request(PAGE),
        RECORDED,
        hits=(opened(),),
    ),
    case(
        "a body that comes late",
        (request(PAGE, b"Content-Length: 5"), WAIT, b"hel", b"lo"),
        RECORDED,
        hits=(viewed(),),
    ),
    case("a body of nothing", request(MAIL, b"Content-Length: 0"), RECORDED, hits=(opened(),)),
    case(
        "chunks",
        request(MAIL, CHUNKED) + b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX: y\r\n\r\n",
        RECORDED,
        hits=(opened(),),
    ),
    case(
        "trailers are no headers",
        request(MAIL, CHUNKED, b"User-Agent: a")
        + b"0\r\nUser-Agent: b\r\nDNT: 1\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
        RECORDED,
        hits=(opened(agent="a"),),
    ),
    case(
        "chunks in pieces",
        slices(request(MAIL, CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n", 3),
        RECORDED,
        hits=(opened(),),
    ),
    case("chunks that are none", (request(b"/o/bad.gif", CHUNKED), WAIT, b"zz\r\n"), BAD_TOKEN, BAD_REQUEST),
    case("Expect", request(MAIL, b"Expect: 100-continue"), RECORDED, hits=(opened(),)),
    case(
        "Expect, and then the body",
        (request(PAGE, b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"), WAIT, b"hello"),
        BAD_METHOD,
    ),
    case("Expect something else", request(MAIL, b"Expect: a miracle"), RECORDED, hits=(opened(),)),
    case(
        "an upgrade to a WebSocket",
        request(MAIL, b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
        last(RECORDED),
        hits=(opened(),),
    ),
    case(
        "an upgrade to HTTP/2, and another request",
        request(PAGE, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
        + request(PAGE),
        last(RECORDED),
        hits=(viewed(),),
    ),
    case("Upgrade alone", request(MAIL, b"Upgrade: h2c"), RECORDED, hits=(opened(),)),
)

THREE = request() + request(b"/o/bad.gif") + request(PAGE, b"User-Agent: B")

PIECES = (
    case("three at once", THREE, RECORDED, BAD_TOKEN, RECORDED, hits=(opened(), viewed(agent="B"))),
    case(
        "raw UTF-8 in two at once, with headers that stay as they are",
        request("/p/site.gif?u=/ø".encode(), "User-Agent: ø".encode()) + request("/p/site.gif?u=/ł".encode()),
        RECORDED,
        RECORDED,
        hits=(viewed(agent="ø", page="/ø"), viewed(page="/ł")),
    ),
    case(
        "raw UTF-8 headers, byte by byte",
        slices(request("/p/site.gif?u=/ø".encode(), "Referer: ø".encode()), 1),
        RECORDED,
        hits=(viewed(referrer="ø", page="/ø"),),
    ),
    case(
        "raw UTF-8 behind a good one",
        (request(), WAIT, b"\r\n" + request("/p/site.gif?u=/ø".encode())),
        RECORDED,
        RECORDED,
        hits=(opened(), viewed(page="/ø")),
    ),
    case(
        "three, by sevens",
        slices(THREE, 7),
        RECORDED,
        BAD_TOKEN,
        RECORDED,
        hits=(opened(), viewed(agent="B")),
    ),
    case(
        "three, in turn",
        (request(), WAIT, request(b"/o/bad.gif"), WAIT, request(PAGE)),
        RECORDED,
        BAD_TOKEN,
        RECORDED,
        hits=(opened(), viewed()),
    ),
    case(
        "HEAD and GET at once",
        request(method=b"HEAD") + request() + request(b"/o/bad.gif", method=b"HEAD") + request(PAGE),
        bare(RECORDED),
        RECORDED,
        bare(BAD_TOKEN),
        RECORDED,
        hits=(opened(method="HEAD"), opened(), viewed()),
    ),
    case("a hundred at once", request(PAGE) * 100, *[RECORDED] * 100, hits=(viewed(),) * 100),
    ends("too many at once", b"GET /x HTTP/1.1\r\n\r\n" * 400),
    case(
        "a POST between",
        request() + request(PAGE, b"Content-Length: 5", method=b"POST") + b"hello" + request(PAGE),
        RECORDED,
        BAD_METHOD,
        RECORDED,
        hits=(opened(), viewed()),
    ),
    case(
        "HTTP/1.0 and one more",
        request(version=b"1.0") + request(PAGE),
        last(RECORDED),
        hits=(opened(),),
    ),
    case(
        "close and one more",
        request(PAGE, b"Connection: close") + request(),
        last(RECORDED),
        hits=(viewed(),),
    ),
    case(
        "a good one, then noise",
        (request(), WAIT, b"\xff\xfe\r\n\r\n"),
        RECORDED,
        BAD_REQUEST,
        hits=(opened(),),
    ),
    ends("two that are not found, then noise", request(b"/x") * 2 + b"noise\r\n\r\n"),
    case("empty lines before", b"\r\n\r\n" + request(), RECORDED, hits=(opened(),)),
    case("byte by byte", slices(request(MAIL, b"User-Agent: A"), 1), RECORDED, hits=(opened(agent="A"),)),
    case(
        "a view, byte by byte",
        slices(request(PAGE + b"?u=%C3%A9", b"DNT: 1"), 1),
        RECORDED,
        hits=(viewed(page="é", dnt="1"),),
    ),
)


def again(name: str, send: bytes | tuple[bytes | None, ...], *answers: Answer, hits: int) -> Case:
    """Returns a case that begins with two opens with the same headers, so that the server has cached them.

    hits: number of further hits.
    """
    parts = (send,) if isinstance(send, bytes) else send
    first = (request(MAIL, *BROWSER), WAIT) * 2
    return case(
        f"seen headers: {name}",
        (*first, *parts),
        RECORDED,
        RECORDED,
        *answers,
        hits=(opened(agent="Mail/2.0", language="de"),) * (2 + hits),
    )


BROWSER = (b"User-Agent: Mail/2.0", b"Accept-Language: de")
_seen = request(MAIL, *BROWSER)
AGAIN = (
    again("an open", _seen, RECORDED, hits=1),
    again("pipelined", _seen * 3, RECORDED, RECORDED, RECORDED, hits=3),
    again("two reads while the first is stored", (_seen, _seen), RECORDED, RECORDED, hits=2),
    again("split anywhere", slices(_seen, 9), RECORDED, hits=1),
    again("an empty line before", b"\r\n" + _seen, RECORDED, hits=1),
    again("half an empty line before", (b"\r", _seen), RECORDED, hits=1),
    again("bad token", request(b"/o/bad.gif", *BROWSER), BAD_TOKEN, hits=0),
    again("no token", request(b"/o/.gif", *BROWSER), NOT_FOUND, hits=0),
    again("no suffix", request(b"/o/" + T, *BROWSER), NOT_FOUND, hits=0),
    again("expired", request(b"/o/" + token(time=1) + b".gif", *BROWSER), EXPIRED, hits=0),
    again("gone", request(b"/o/" + token("gone") + b".gif", *BROWSER), IS_GONE, hits=0),
    again("a query", request(MAIL + b"?a=b", *BROWSER), RECORDED, hits=1),
    again("a fragment", request(MAIL + b"#a", *BROWSER), RECORDED, hits=1),
    again("a space", request(MAIL + b" x.gif", *BROWSER), BAD_REQUEST, hits=0),
    again("not ASCII", request(b"/o/\xc3\xa9.gif", *BROWSER), BAD_TOKEN, hits=0),
    again("HTTP/1.0", request(MAIL, *BROWSER, version=b"1.0"), last(RECORDED), hits=1),
    again("noise after", _seen + b"noise\r\n\r\n", BAD_REQUEST, hits=1),
)


def stranger(name: str, *headers: bytes) -> Case:
    """Returns a case whose cookie is not good, so the visitor is new."""
    return case(f"new: {name}", request(YES, *headers), SETS, hits=(shopped(visits=1, is_new=True),))


_old = cookie(ADA)
COOKIES = (
    stranger("no cookie"),
    stranger(
        "other cookies", b"Cookie: px_site=1; xpx_shop=2; px_shop; px_shopping=3;;=; px_shop=", b"Cookie: a"
    ),
    stranger("a forged tag", _old[:-1] + (b"A" if _old[-1:] != b"A" else b"B")),
    stranger("a forged id", _old[:20] + (b"A" if _old[20:21] != b"A" else b"B") + _old[21:]),
    stranger("another spelling", _old.replace(b"-", b"+").replace(b"_", b"/") + b"="),
    stranger("cut", _old[:-4]),
    stranger("too long", _old + b"AAAA"),
    stranger("4 KB", b"Cookie: px_shop=" + b"A" * 4096),
    stranger("100 KB", b"Cookie: " + b"px_shop=;" * 11_000),
    stranger("too many of them", b"Cookie: " + b"px_shop=%b; " % (b"A" * 40) * 4 + _old[8:]),
    stranger("signed for another campaign", cookie(ADA, "site")),
    stranger("signed by another server", cookie(ADA, secrets=Secrets.derive(("another-signing-key",), "x"))),
    stranger(
        "signed with the key of links", b"Cookie: px_shop=" + sign_cookie(ADA, SHOP, _secrets.signing[0])
    ),
    stranger("of a shard that is not", cookie(ADA._replace(shard=4))),
    stranger("13 months old", cookie(ADA._replace(first=NOW - LIFETIME_SECONDS - 1))),
    stranger("from tomorrow", cookie(ADA._replace(first=NOW + 86_400, last=NOW + 86_400))),
    stranger("not UTF-8", b"Cookie: px_shop=" + b"\xff" * 40),
    case("a cookie of yesterday", request(YES, _old), SETS, hits=(shopped(held=ADA, visits=3),)),
    case(
        "among others, sent twice",
        request(YES, b"Cookie: px_shop=bad; px-no=0", b"Cookie:  " + _old[8:] + b" ; a=b"),
        SETS,
        hits=(shopped(held=ADA, visits=3),),
    ),
    case("a fresh cookie", request(YES, _FRESH), RECORDED, hits=(shopped(held=ADA, visits=2),)),
    case("a cookie, and no yes", request(b"/p/shop.gif", _old), RECORDED, hits=(shopped(),)),
    case("a cookie, and something else", request(b"/p/shop.gif?c=0&c=1", _old), RECORDED, hits=(shopped(),)),
    case("a cookie that asks", request(YES, _old, b"Sec-GPC: 1"), RECORDED, hits=(shopped(gpc="1"),)),
    case("a yes to another campaign", request(PAGE + b"?c=1", _old), RECORDED, hits=(viewed(),)),
    case("v, where cookies tell", request(b"/p/shop.gif?v=ada"), RECORDED, hits=(shopped(),)),
    case("HEAD", request(YES, method=b"HEAD"), bare(RECORDED), hits=(shopped("HEAD"),)),
    case("HEAD with a cookie", request(YES, _old, method=b"HEAD"), bare(RECORDED), hits=(shopped("HEAD"),)),
    *(
        case(
            f"asked for ahead: {name.decode()}, {with_cookie}",
            request(YES, name + b": prefetch", *((_old,) if with_cookie else ())),
            RECORDED,
            hits=(shopped(purpose=f"{name.decode()}=prefetch;"),),
        )
        for name in (b"sec-purpose", b"purpose", b"x-moz")
        for with_cookie in (False, True)
    ),
    case(
        "HTTP/1.0 with a yes",
        request(YES, version=b"1.0"),
        last(SETS),
        hits=(shopped(visits=1, is_new=True),),
    ),
    *(
        case(
            f"from {site.decode()}",
            request(YES, b"Sec-Fetch-Site: " + site),
            answer,
            hits=(shopped(visits=1, is_new=True),),
        )
        for site, answer in (
            (b"none", SETS),
            (b"same-origin", SETS),
            (b"same-site", SETS),
            (b"cross-site", SETS_ELSEWHERE),
            (b"anything-else", SETS_ELSEWHERE),
        )
    ),
    case(
        "yes and no by turns",
        (request(YES) + request(b"/p/shop.gif")) * 2 + request(YES, _old) + request(),
        SETS,
        RECORDED,
        SETS,
        RECORDED,
        SETS,
        RECORDED,
        hits=(
            *(shopped(visits=1, is_new=True), shopped()) * 2,
            shopped(held=ADA, visits=3),
            opened(),
        ),
    ),
    case("opted out of a page", request(YES, b"Cookie: px-no=1"), OUT),
    case("opted out of a mail", request(MAIL, b"Cookie: a=b; px-no=1"), OUT),
    case("opted out, HEAD", request(MAIL, b"Cookie: px-no=1;", method=b"HEAD"), bare(OUT)),
    case("opted out, of nothing", request(b"/p/none.gif", b"Cookie: px-no=1"), NO_CAMPAIGN),
    case("opted out, of what is gone", request(b"/p/gone.gif", b"Cookie: px-no=1"), IS_GONE),
    case("opted out four times", request(MAIL, b"Cookie: px-no=1") * 4, OUT, OUT, OUT, OUT),
    case(
        "opted out four times, in turn",
        (request(MAIL, b"Cookie: px-no=1"), WAIT) * 4,
        OUT,
        OUT,
        OUT,
        OUT,
    ),
    case("not opted out", request(MAIL, b"Cookie: px-no=0; xpx-no=1; px-no=11"), RECORDED, hits=(opened(),)),
)

A = b"https://a.example"


def post(path: bytes, body: bytes, *headers: bytes, origin: bytes = A) -> bytes:
    named = (b"Origin: " + origin,) if origin else ()
    kind = b"Content-Type: text/plain;charset=UTF-8"
    return request(path, *named, kind, *headers, b"Content-Length: %d" % len(body), method=b"POST") + body


def beacon(name: str, body: bytes, *headers: bytes, **said: Any) -> Case:
    """Returns a beacon of SITE. body: the JSON after the name of the view."""
    view = _secrets.visitor_key(b"view", b"site", b"a1")
    whole = b'{"i":"a1"' + body + b"}"
    return case(
        f"beacon: {name}",
        post(b"/p/site", whole, *headers),
        to(RECORDED, A),
        hits=(viewed("POST", view=view, **said),),
    )


def no_beacon(name: str, body: bytes) -> Case:
    return case(f"no beacon: {name}", post(b"/p/site", body), to(BAD_BODY, A))


_view = b'{"i":"a1"}'
_seen_view = _secrets.visitor_key(b"view", b"shop", b"a1")
_seen_site_view = _secrets.visitor_key(b"view", b"site", b"a1")
BEACONS = (
    beacon("a view", b""),
    beacon(
        "all that can be said",
        b',"u":"https://a.example/x?y","r":"https://b.example","v":"ada","c":1',
        own=b"ada",
        page="https://a.example/x?y",
        page_referrer="https://b.example",
    ),
    beacon("a report", b',"t":1234', spent_ms=1234),
    beacon("no time", b',"t":0', spent_ms=0),
    beacon("a year", b',"t":31536000000', spent_ms=86_400_000),
    beacon("all time", b',"t":' + b"9" * 99, spent_ms=86_400_000),
    beacon("long", b',"u":"' + b"u" * 2500 + b'"', page="u" * hit.MAX_URL),
    beacon("as long as may be", b" " * (4096 - len(_view))),
    beacon("any alphabet", ',"u":"é\\u0000\\u00e9","x":[{}]'.encode(), page="é\0é"),
    beacon(
        "the page by its header",
        b"",
        b"Referer: https://a.example/x",
        referrer="https://a.example/x",
        page="https://a.example/x",
    ),
    case(
        "beacon: raw UTF-8 request lines behind its body",
        post(b"/p/site", '{"i":"a1","u":"/ł","v":"GET /é"}'.encode())
        + request("/p/site.gif?u=/ø".encode(), "Referer: ø".encode())
        + post("/p/site?né".encode(), _view),
        to(RECORDED, A),
        RECORDED,
        to(RECORDED, A),
        hits=(
            viewed("POST", view=_seen_site_view, own="GET /é".encode(), page="/ł"),
            viewed(referrer="ø", page="/ø"),
            viewed("POST", view=_seen_site_view),
        ),
    ),
    case(
        "beacon: a raw UTF-8 request line behind chunks, cut in a character",
        slices(
            request(b"/o/bad.gif", CHUNKED)
            + "2\r\né\r\n0\r\n\r\n".encode()
            + request("/p/site.gif?u=/ø".encode()),
            1,
        ),
        BAD_TOKEN,
        RECORDED,
        hits=(viewed(page="/ø"),),
    ),
    case(
        "beacon: a raw UTF-8 request line",
        post("/p/site?né".encode(), '{"i":"a1","u":"/né"}'.encode()),
        to(RECORDED, A),
        hits=(viewed("POST", view=_secrets.visitor_key(b"view", b"site", b"a1"), page="/né"),),
    ),
    no_beacon("nothing", b""),
    no_beacon("no object", b"[]"),
    no_beacon("null", b"null"),
    no_beacon("no name", b"{}"),
    no_beacon("an empty name", b'{"i":""}'),
    no_beacon("a long name", b'{"i":"' + b"a" * 33 + b'"}'),
    no_beacon("a name of letters that are none", b'{"i":"a\\n"}'),
    no_beacon("a name that is a number", b'{"i":1}'),
    no_beacon("a time below zero", b'{"i":"a","t":-1}'),
    no_beacon("an endless time", b'{"i":"a","t":1e999}'),
    no_beacon("a time in words", b'{"i":"a","t":"1"}'),
    no_beacon("a yes in words", b'{"i":"a","c":"yes"}'),
    no_beacon("two of them", _view * 2),
    no_beacon("a query", b"i=a1&u=x"),
    no_beacon("deep", b'{"i":"a","x":' + b"[" * 4000),
    no_beacon("half a letter", b'{"i":"a","u":"\\ud800"}'),
    no_beacon("two wrong halves", b'{"i":"a","u":"\\ud800\\ud800"}'),
    no_beacon("not UTF-8", b'{"i":"a","u":"\xff"}'),
    case(
        "a beacon as JSON",
        post(b"/p/site", _view).replace(b"text/plain;charset=UTF-8", b"Application/JSON"),
        to(RECORDED, A),
        hits=(viewed("POST", view=_secrets.visitor_key(b"view", b"site", b"a1")),),
    ),
    *(
        case(
            f"a beacon as {kind!r}",
            post(b"/p/site", _view).replace(b"text/plain;charset=UTF-8", kind),
            to(BAD_BODY, A),
        )
        for kind in (b"", b"text/html", b"application/x-www-form-urlencoded", b"application/json2")
    ),
    case("a beacon of 4097 bytes", post(b"/p/site", b" " * 4097), to(LONG_BODY, A)),
    case(
        "a length of 5000 digits",
        post(b"/p/site", _view).replace(b"Length: 10", b"Length: " + b"0" * 4998 + b"10"),
        to(RECORDED, A),
        hits=(viewed("POST", view=_secrets.visitor_key(b"view", b"site", b"a1")),),
    ),
    case(
        "a length of 5000 digits, too much",
        request(
            b"/p/site",
            b"Content-Type: text/plain",
            b"Content-Length: " + b"0" * 4980 + b"18446744073709551615",
            method=b"POST",
        ),
        to(LONG_BODY),
    ),
    ends(
        "a length beyond all numbers",
        request(b"/p/site", b"Content-Type: text/plain", b"Content-Length: " + b"9" * 5000, method=b"POST"),
    ),
    case(
        "4097 bytes in chunks",
        request(b"/p/site", b"Content-Type: text/plain", CHUNKED, method=b"POST")
        + b"800\r\n"
        + b" " * 0x800
        + b"\r\n801\r\n"
        + b" " * 0x801
        + b"\r\n",
        to(LONG_BODY),
    ),
    case(
        "trailers of a beacon are no headers",
        request(b"/p/shop", b"Content-Type: text/plain", CHUNKED, b"User-Agent: a", method=b"POST")
        + b"a\r\n"
        + _view
        + b"\r\n0\r\nUser-Agent: b\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"
        + request(MAIL, b"User-Agent: c"),
        to(RECORDED),
        RECORDED,
        hits=(shopped("POST", view=_seen_view, agent="a"), opened(agent="c")),
    ),
    case(
        "a beacon in chunks",
        slices(
            request(b"/p/shop", b"Content-Type: text/plain", CHUNKED, method=b"POST")
            + b"a\r\n"
            + _view
            + b"\r\n0\r\n\r\n",
            20,
        ),
        to(RECORDED),
        hits=(shopped("POST", view=_seen_view),),
    ),
    case(
        "a beacon that is expected",
        (
            request(
                b"/p/shop",
                b"Content-Type: text/plain",
                b"Expect: 100-continue",
                b"Content-Length: 10",
                method=b"POST",
            ),
            WAIT,
            _view,
        ),
        CONTINUE,
        to(RECORDED),
        hits=(shopped("POST", view=_seen_view),),
    ),
    case(
        "a beacon that says yes",
        post(b"/p/shop", b'{"i":"a1","c":1}', b"Sec-Fetch-Site: cross-site"),
        to(SETS_ELSEWHERE, A),
        hits=(shopped("POST", view=_seen_view, visits=1, is_new=True),),
    ),
    case(
        "a report that says yes",
        post(b"/p/shop", b'{"i":"a1","c":1,"t":5}', _old),
        to(SETS, A),
        hits=(shopped("POST", ADA, view=_seen_view, visits=3, spent_ms=5),),
    ),
    case(
        "a report that says nothing",
        post(b"/p/shop", b'{"i":"a1","t":5}'),
        to(RECORDED, A),
        hits=(shopped("POST", view=_seen_view, spent_ms=5),),
    ),
    case(
        "a report that says nothing, with a cookie",
        post(b"/p/shop", b'{"i":"a1","t":5}', _old),
        to(RECORDED, A),
        hits=(shopped("POST", view=_seen_view, spent_ms=5),),
    ),
    case("a beacon that opted out", post(b"/p/shop", b'{"i":"a1","c":1}', b"Cookie: px-no=1"), to(OUT, A)),
    case("a beacon to nothing", post(b"/p/none", _view), to(NO_CAMPAIGN, A)),
    case("a beacon to a mail's campaign", post(b"/p/mail", _view), to(NO_CAMPAIGN, A)),
    case("a beacon to what is gone", post(b"/p/gone", _view), to(IS_GONE, A)),
    case("a beacon to no slug", post(b"/p/Site", _view), to(NOT_FOUND, A)),
    case("a beacon below", post(b"/p/site/", _view), to(NOT_FOUND, A)),
    case("a beacon to a mail", post(b"/o/site", _view), NOT_FOUND),
    case("a beacon with PUT", post(b"/p/site", _view).replace(b"POST", b"PUT"), NOT_FOUND),
    case(
        "from one of its origins",
        post(b"/p/fenced", _view),
        to(RECORDED, A),
        hits=(
            Hit(
                0,
                FENCED,
                hit.WEB,
                "POST",
                address=bytes([127, 0, 0, 1]),
                view=_secrets.visitor_key(b"view", b"fenced", b"a1"),
            ),
        ),
    ),
    *(
        case(
            f"from another origin: {origin[:20]!r}",
            post(b"/p/fenced", _view, origin=origin),
            to(BAD_ORIGIN, origin),
        )
        for origin in (
            b"",
            b"null",
            b"https://b.example",
            b"http://a.example",
            b"https://a.example:8443",
            b"https://a.example.b.example",
            b"https://A.example",
        )
    ),
    *(
        case(
            f"from no page: {origin[:20]!r}",
            post(b"/p/fenced", _view, origin=origin),
            to(BAD_ORIGIN),
        )
        for origin in (
            b"https://a.example, https://a.example",
            b"\xff",
            b"https://a.example/" + b"a" * 5000,
        )
    ),
    *(
        case(f"from no origin: {origin[:20]!r}", post(b"/p/none", _view, origin=origin), to(NO_CAMPAIGN))
        for origin in (
            b"",
            b"file://",
            b"https://",
            b"https://a b",
            b"https://\xe9.example",
            b"https://" + b"a" * 301,
        )
    ),
    case("from a sandboxed frame", post(b"/p/none", _view, origin=b"null"), to(NO_CAMPAIGN, b"null")),
    case("a preflight", request(b"/p/site", b"Origin: " + A, method=b"OPTIONS"), to(PREFLIGHT, A)),
    case(
        "a preflight to its own", request(b"/p/fenced", b"Origin: " + A, method=b"OPTIONS"), to(PREFLIGHT, A)
    ),
    case(
        "a preflight from another",
        request(b"/p/fenced", b"Origin: null", method=b"OPTIONS"),
        to(BAD_ORIGIN, b"null"),
    ),
    case("a preflight to what is gone", request(b"/p/gone", method=b"OPTIONS"), to(PREFLIGHT)),
    case("a preflight to nothing", request(b"/p/none", method=b"OPTIONS"), to(NO_CAMPAIGN)),
    case(
        "a view, a beacon, a view",
        request(PAGE) + post(b"/p/site", b"no") + request(PAGE),
        RECORDED,
        to(BAD_BODY, A),
        RECORDED,
        hits=(viewed(), viewed()),
    ),
)

CASES = (*PLAIN, *QUERIES, *PATHS, *NO_REQUESTS, *FLOODS, *BODIES, *PIECES, *AGAIN, *COOKIES, *BEACONS)
