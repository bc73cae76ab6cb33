"""The check of the commands itself."""

from __future__ import annotations

import pytest

from pixel_server.store import keys
from pixel_server.store.script import GLOBAL, script_call
from tests.command_check import check


def test_check_keys_of_two_tags_fails():
    with pytest.raises(AssertionError, match="several tags"):
        check("DEL", keys.hits(1), keys.hits(2))


@pytest.mark.parametrize(
    ("declared", "argument"), [((keys.hits(1),), keys.dead(1)), ((keys.last.prefix(1),), "x")]
)
def test_check_script_with_undeclared_keys_needs_the_guard(declared, argument):
    with pytest.raises(AssertionError, match="does not declare"):
        check("EVAL", *script_call("return 1", keys=declared, arguments=(argument,)))
    check("EVAL", *script_call("return 1", keys=declared, arguments=(argument,), undeclared=1))


def test_script_call_undeclared_keys_of_all_declares_the_global_guard():
    assert script_call("return 1", keys=(keys.GONE,), undeclared=GLOBAL)[1:] == (2, keys.GONE, keys.NONE)


def test_check_client_of_the_tests_is_checked(client):
    with pytest.raises(AssertionError, match="several tags"):
        client.delete(keys.hits(1), keys.hits(2))
