"""What the subjects of a run own at one moment, for the leak checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from chaos.peers.host import Host
from chaos.peers.probes import Ledger, count_living
from chaos.trace import Side


def take_census(
    hosts: Iterable[Host], ledger: Ledger, sides: Sequence[Side]
) -> dict[Side, dict[str, Any]]:
    """Return for each side its tasks, sockets, memory channels and connection objects.

    Collects garbage first. Memory channels do not say whose they are: their count is of the whole process, and is
    the same for both sides, less the channels over which the run tells them of the timeline's actions.
    """
    everyone = list(hosts)
    living = count_living()
    channels = max(0, living.channels - sum(host.channels() for host in everyone))
    return {
        side: {
            "tasks": sum(host.tasks() for host in everyone if host.side == side),
            "sockets": ledger.count(side),
            "channels": channels,
            "objects": living.objects[side],
        }
        for side in sides
    }
