"""A toxic is switched all the time while short connections come and go: no run crashes, on any network.

By default for three seconds. `TRIO_CHAOS_CHURN_S` sets another time: ten minutes are 600.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.servers import see_original

from chaos.api import Selection, run_jobs, select
from chaos.checks.verdict import Outcome
from chaos.trace import parse_trace

pytestmark = pytest.mark.slow

FOR_S = float(os.environ.get("TRIO_CHAOS_CHURN_S", "3"))
HERE = Path(__file__).parent
SCENARIO = """
version: 1
name: churn
duration: {duration_s}s
networks: [{network}]
server: {{use: reference}}
client: {{use: "{client}", storm: {{per_outage_max: 1000000, per_second_max: 1000}}}}
steady_state: none
timeline:
  - {{at: 500ms, for: {for_ms}ms, every: {every_ms}ms, times: {times}, toxic: latency, allow_unfelt: true,
     attributes: {{latency: 30, jitter: 10}}}}
expect:
  - availability: {{at_least: 0}}
"""


@pytest.mark.parametrize("every_ms", [100, 2], ids=["pauses", "without-pauses"])
@pytest.mark.parametrize(
    "network",
    ["embedded", "simulated", pytest.param("toxiproxy", marks=pytest.mark.toxiproxy)],
)
def test_a_toxic_may_be_switched_while_connections_end(
    tmp_path: Path, network: str, every_ms: int
) -> None:
    if network == "toxiproxy":
        see_original()
    file = tmp_path / "churn.yaml"
    times = min(10_000, int((FOR_S - 1) * 1000 / every_ms))
    file.write_text(
        SCENARIO.format(
            duration_s=FOR_S,
            network=network,
            client=f"{HERE / 'short_connections.py'}:client",
            for_ms=every_ms // 2,
            every_ms=every_ms,
            times=times,
        )
    )
    chosen = select(Selection(paths=(file,), network=network))  # type: ignore[arg-type]
    assert chosen.skipped == ()
    done = run_jobs(chosen.jobs(out=tmp_path))
    verdict = done.verdicts[0]
    assert verdict.outcome is not Outcome.FAIL, verdict.findings
    complete = next(row for row in verdict.findings if row.check == "complete")
    assert complete.outcome is Outcome.PASS, complete
    trace = parse_trace(next(tmp_path.rglob("trace.jsonl")).read_text().splitlines(keepends=True))
    kinds = [event.kind for event in trace.events]
    print(
        network, verdict.outcome, kinds.count("attempt"), "attempts,", kinds.count("apply"), "steps"
    )
    # Toxiproxy's lanes let one connection in after the other
    assert kinds.count("attempt") > (10 if network == "toxiproxy" else 20) * FOR_S
    # a call of Toxiproxy's API takes longer than the shorter of the two pauses
    assert network == "toxiproxy" or kinds.count("apply") == 2 * times
