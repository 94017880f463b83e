"""Imported once by the fork server, so that each worker starts with everything in memory.

What is there is set aside from the garbage collector: a run would walk and copy all of it, to find nothing.
"""

import gc

import chaos.networks.embedded
import chaos.networks.simulated.network
import chaos.networks.toxiproxy.network
import chaos.reference.client
import chaos.reference.server
import chaos.running.pool.worker
import chaos.running.process  # noqa: F401

gc.collect()
gc.freeze()
