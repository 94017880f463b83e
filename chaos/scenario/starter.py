"""Writes the first scenario of a newcomer: it is valid, explained line by line, and over in twenty seconds."""

from __future__ import annotations

import re

from chaos.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")

_TEXT = """\
# For editors that know the keys: trio-chaos schema > scenario.schema.json
# yaml-language-server: $schema=scenario.schema.json
version: 1
name: @NAME@
description: The path dies silently for 6 s. Only a heartbeat can tell.
duration: 20s                 # the whole scenario; every duration has a unit: 250ms, 20s, 15m, 2h

variables:
  beat: 1s                    # ${beat} below; `matrix: {beat: [1s, 2s]}` would run it once for each

# Who talks to whom. `reference` is the server and the client that ship with trio-chaos. Yours:
#   use: my.package:client            a trio callable: async def client(url, **options)
#   command: [node, client.js, "{url}"]   any program
#   url: wss://example.org/socket     a server that is already running (servers only)
server:
  use: reference
  heartbeat: {interval: "${beat}", timeout: 1s}   # ping after 1 s, dead when no pong comes for 1 s
client:
  use: reference
  heartbeat: {interval: "${beat}", timeout: 1s}
  connect_timeout: 2s         # an attempt into the silent path is given up after this
  backoff: {initial: 200ms, factor: 2, max: 1s, jitter: full}

# Messages that are sent all the time, so that there is something to lose.
workload:
  - {from: server, every: 250ms, size: 64}

# What goes wrong, and when. `trio-chaos list faults` has all words.
timeline:
  - at: 4s                    # from the moment at which the server listens
    for: 6s                   # then the path works again
    fault: blackhole          # every byte vanishes, both ways; nobody is told
    name: outage              # how the expectations below speak of it

# What must hold. `trio-chaos list checks` has all checks.
expect:
  - detects_dead_peer: {by: client, during: outage, within: 5s}   # interval + timeout + 2s to close, 1s spare
  - detects_dead_peer: {by: server, during: outage, within: 5s}
  - reconnects: {after: outage, within: 8s}
  - single_connection
  - no_leaks
"""


def starter(name: str) -> str:
    """Return a commented scenario of this name that passes with the reference peers in about 20 s.

    Raises UsageError when the name cannot be one of a scenario.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a scenario, expected lower case letters, digits, dots and "
            "dashes, such as half-open"
        )
    return _TEXT.replace("@NAME@", name)
