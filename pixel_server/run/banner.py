"""The text that `pixel-server up` prints once everything runs: addresses, and the next commands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def program(data: Path) -> str:
    """Returns the shell command that runs this program with a data directory, in any working directory.

    For example `"PIXEL_DATA_DIR=/srv/pixel /opt/pixel/bin/pixel-server"`.
    """
    here = Path(sys.argv[0]).absolute()
    command = [sys.executable, "-m", "pixel_server"] if here.name == "__main__.py" else [str(here)]
    return f"PIXEL_DATA_DIR={shlex.quote(str(data))} {shlex.join(command)}"


def banner(
    address: str,
    data: Path,
    sign_in_urls: list[str],
    key_note: str,
    never_had_campaign: bool,
    with_demo: bool,
) -> str:
    """Returns the text.

    sign_in_urls: the same sign-in link at each address. key_note: words about the API key.
    """
    if never_had_campaign:
        next_step = "make a campaign, and a link for one recipient"
        commands = ["campaign create hello", "link hello ada@example.org --html"]
    else:
        next_step = "see the campaigns"
        commands = ["campaign list"]
    shell_command = program(data)
    return "\n".join(
        [
            f"pixel-server is up at {address}",
            f"  sign in  {sign_in_urls[0]} (once, within ten minutes)",
            *(f"  or at    {url} (the same link, at this server's own address)" for url in sign_in_urls[1:]),
            f"  data     {data}",
            f"  API key  {key_note}",
            f"  next     {next_step}, in another terminal:",
            *(f"           {shell_command} {command}" for command in commands),
            *([f"  demo     is being added; to remove it: {shell_command} demo remove"] if with_demo else []),
            "Ctrl-C stops it.",
        ]
    )
