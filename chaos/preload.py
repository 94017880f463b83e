"""Imported once by the fork server, so that each run starts with everything in memory."""

import chaos.networks.embedded
import chaos.networks.toxiproxy
import chaos.peers.client
import chaos.peers.server
import chaos.worker  # noqa: F401
