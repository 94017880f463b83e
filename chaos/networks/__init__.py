"""The networks: what stands between the subjects, and who applies the toxics. `make_network` chooses one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from chaos.errors import UsageError, without_extra

if TYPE_CHECKING:
    from chaos.networks.simulated.world import World


def make_network(name: str, toxiproxy: str | None = None, world: World | None = None) -> Any:
    """Return a function that makes the network of this name for a run (see `chaos.networks.base.MakeNetwork`).

    `toxiproxy` is the URL of a Toxiproxy that is already running; without it one is started. `world` is that of a
    simulated run, whose path faults need it.

    Raises:
        UsageError: there is no such network, or the URL is none.
    """
    if name == "simulated" and world is not None:
        from chaos.networks.simulated.network import SimulatedNetwork  # noqa: PLC0415

        return functools.partial(SimulatedNetwork, world)
    if name in ("embedded", "simulated"):
        # without a world the simulated network is the same: trio's sockets and clock are others
        from chaos.networks.embedded import EmbeddedNetwork  # noqa: PLC0415 - only what is used

        return EmbeddedNetwork
    if name == "toxiproxy":
        try:
            from chaos.networks.toxiproxy.network import ToxiproxyNetwork  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "toxiproxy":
                raise
            raise without_extra("the network toxiproxy", "toxiproxy-python", "toxiproxy") from error

        if toxiproxy is not None:
            from chaos.networks.toxiproxy.api import parse_url  # noqa: PLC0415

            parse_url(toxiproxy)  # a mistake in it is reported before anything starts
        return functools.partial(ToxiproxyNetwork, url=toxiproxy)
    raise UsageError(f"no network {name!r}; expected embedded, toxiproxy or simulated")
