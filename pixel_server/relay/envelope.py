"""Reads the arguments of MAIL and RCPT (RFC 5321, 4.1.2), and writes them for the next server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from pixel_server.relay.reply import Reply, reply

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_path = re.compile(rf"<(?P<path>(?:{_QUOTED}|[^<>\"\s])*)>|(?P<bare>[^<>\s]+)").match
_parameter = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[^\s=]+))?").fullmatch
_route = re.compile(r"@[^:\s\"]*:").match
_is_unsafe = re.compile("[\x00-\x1f\x7f\ud800-\udfff]").search
_is_number = re.compile("[0-9]{1,20}").fullmatch
_MAIL_EXTENSIONS = {
    "SIZE": "size",
    "BODY": "8bitmime",
    "SMTPUTF8": "smtputf8",
    "RET": "dsn",
    "ENVID": "dsn",
}
_RCPT_EXTENSIONS = {"NOTIFY": "dsn", "ORCPT": "dsn"}
"""Extension that allows a parameter, by the name of the parameter."""

BAD_SYNTAX = reply("501 5.5.4 give an address in <>, and parameters behind it")
NOT_TEXT = reply("501 5.5.2 the command is not UTF-8, or has control characters")
NEEDS_SMTPUTF8 = reply("553 5.6.7 an address outside ASCII needs SMTPUTF8")


class Refusal(Exception):
    """A command or a mail is refused. reply: the reply to the client. disconnects: whether it is the last."""

    def __init__(self, reply: Reply, *, disconnects: bool = False) -> None:
        super().__init__(str(reply.code))
        self.reply = reply
        self.disconnects = disconnects


class Path(NamedTuple):
    """An address with its parameters, by names in upper case. address: "" for the empty sender `<>`."""

    address: str
    parameters: Mapping[str, str | None]

    def command(self, verb: str) -> str:
        """Returns the command for the next server: `"RCPT TO:<ada@example.org> NOTIFY=NEVER"`."""
        words = [name if value is None else f"{name}={value}" for name, value in self.parameters.items()]
        return " ".join([f"{verb}:<{self.address}>", *words])


def parse_sender(argument: str | None, extensions: Mapping[str, str], max_bytes: int) -> Path:
    """Returns the argument of MAIL: `FROM:<list@example.org> SIZE=4711`. Raises Refusal.

    extensions: the extensions that the next server offers. max_bytes: largest size of a mail. Drops the
    parameter AUTH, as RFC 4954 (5) asks for if the next server does not trust this relay.
    """
    path = _parse(argument, "FROM:", _MAIL_EXTENSIONS | {"AUTH": "auth"}, {**extensions, "auth": ""})
    parameters = {name: value for name, value in path.parameters.items() if name != "AUTH"}
    if "BODY" in parameters and (parameters["BODY"] or "").upper() not in ("7BIT", "8BITMIME"):
        raise Refusal(reply("501 5.5.4 BODY may be 7BIT or 8BITMIME: binary mails are not taken"))
    size = parameters.get("SIZE", "0") or ""
    if not _is_number(size):
        raise Refusal(reply("501 5.5.4 SIZE must be a number"))
    if int(size) > max_bytes:
        raise Refusal(reply(f"552 5.3.4 a mail may have {max_bytes} bytes"))
    if "size" not in extensions:
        parameters.pop("SIZE", None)
    if not path.address.isascii() and "SMTPUTF8" not in parameters:
        raise Refusal(NEEDS_SMTPUTF8)
    return Path(path.address, parameters)


def parse_recipient(argument: str | None, extensions: Mapping[str, str], allows_utf8: bool) -> Path:
    """Returns the argument of RCPT: `TO:<ada@example.org> NOTIFY=NEVER`. Raises Refusal.

    allows_utf8: whether MAIL had the parameter SMTPUTF8.
    """
    path = _parse(argument, "TO:", _RCPT_EXTENSIONS, extensions)
    if not path.address:
        raise Refusal(BAD_SYNTAX)
    if not path.address.isascii() and not allows_utf8:
        raise Refusal(NEEDS_SMTPUTF8)
    return path


def _parse(
    argument: str | None, keyword: str, allowed: Mapping[str, str], extensions: Mapping[str, str]
) -> Path:
    """Returns the path behind a keyword. allowed: extension by parameter. SIZE is always allowed."""
    text = argument or ""
    if _is_unsafe(text):
        raise Refusal(NOT_TEXT)
    if text[: len(keyword)].upper() != keyword:
        raise Refusal(BAD_SYNTAX)
    rest = text[len(keyword) :].lstrip()
    found = _path(rest)
    if found is None or not re.match(r"\s|\Z", rest[found.end() :]):
        raise Refusal(BAD_SYNTAX)
    parameters: dict[str, str | None] = {}
    for word in rest[found.end() :].split():
        parameter = _parameter(word)
        name = parameter["name"].upper() if parameter else ""
        if parameter is None or name in parameters:
            raise Refusal(BAD_SYNTAX)
        if name not in allowed or (name != "SIZE" and allowed[name] not in extensions):
            raise Refusal(reply(f"555 5.5.4 the parameter {name[:40]} is not offered"))
        parameters[name] = parameter["value"]
    address = found["path"] if found["bare"] is None else found["bare"]
    route = _route(address)
    return Path(address[route.end() :] if route else address, parameters)
