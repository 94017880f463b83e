"""The embedded network: one link per client, on the machine's sockets, nothing to install."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from chaos.link.link import ClientLink
from chaos.link.poller import Caller
from chaos.link.transcript import Journal
from chaos.networks.base import Network, Tls, affected, apply_step, dialer
from chaos.recorder import Recorder
from chaos.scenario.plan import Plan, Step
from chaos.trace import Side

BOTH_SIDES: frozenset[Side] = frozenset(("client", "server"))


class EmbeddedNetwork(Network):
    """A link per client; each applies the toxics and faults itself, and records by itself what was felt."""

    def __init__(
        self,
        *,
        plan: Plan,
        recorder: Recorder,
        host: str,
        port: int,
        tls: Tls | None,
        caller: Caller | None = None,
    ) -> None:
        """Prepare the links; nothing listens before `open`. `caller` makes their calls on virtual time."""
        self._plan = plan
        readers = plan.readers()
        self._links = {
            client: ClientLink(
                seed=plan.seed,
                journal=Journal(
                    recorder=recorder,
                    client=client,
                    sides=BOTH_SIDES,
                    timeline=plan.scenario.timeline,
                    readers=readers,
                ),
                dial=dialer(host, port, tls),
                tls=tls.server if tls else None,
                caller=caller,
            )
            for client in range(1, plan.scenario.client.count + 1)
        }

    async def open(self, nursery: trio.Nursery) -> Sequence[int]:
        """Open all links; see `Network.open`."""
        return [await link.open(nursery) for link in self._links.values()]

    async def apply(self, step: Step) -> None:
        """Apply a step to the clients that its entry names."""
        for client in affected(self._plan, step):
            await apply_step(self._links[client], self._plan, step)
