"""Lets a process do once what every run does, so that its forks need not each do it for the first time.

A process that has run something has specialized the code of what it ran, and has made what libraries make once. Its
forks share that. The reference peers are run, and nothing of the user's.
"""

from __future__ import annotations

from functools import cache

from chaos.running.job import Job
from chaos.scenario.load import load_text
from chaos.scenario.vary import Bounds

# from here on more of them gain nothing that can be measured
RUNS = 4
SCENARIO = """
version: 1
name: warm
duration: 9s
workload: [{from: server, every: 200ms}, {from: client, every: 200ms}]
server: {heartbeat: {interval: 500ms, timeout: 1s}}
client: {heartbeat: {interval: 500ms, timeout: 1s}, backoff: {initial: 200ms, max: 500ms}, connect_timeout: 1s}
timeline:
  - {at: 2s, for: 1s, toxic: latency, attributes: {latency: 20}}
  - {at: 3s, for: 2500ms, fault: blackhole, name: outage}
  - {at: 7s, fault: reset}
expect:
  - detects_dead_peer: {by: client, during: outage, within: 1500ms}
  - reconnects: {after: outage, within: 2s}
  - no_leaks
"""


@cache
def warm_job() -> Job:
    """Return the job whose runs warm a process."""
    (scenario,) = load_text(SCENARIO, "warm.yaml")
    return Job(scenario=scenario, network="simulated", seeds=tuple(range(RUNS)), bounds=Bounds())
