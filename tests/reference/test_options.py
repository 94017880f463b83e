"""Options: what the run passes as plain values becomes frozen settings."""

from __future__ import annotations

from chaos.reference.options import (
    ClientOptions,
    PeerOptions,
)
from chaos.scenario.model import BackoffPlan, Heartbeat, Workload


def test_nested_plain_values_are_parsed_and_unknown_ones_ignored() -> None:
    options = ClientOptions.parse(
        {
            "number": 3,
            "heartbeat": {"interval_s": 5.0, "timeout_s": 3.0, "new": 1},
            "backoff": {"initial_s": 2.0, "jitter": "equal"},
            "workload": [{"sender": "server", "every_s": 0.5, "delivery": "resume"}],
            "subprotocols": ["a", "b"],
            "something": "else",
        }
    )
    assert options == ClientOptions(
        number=3,
        heartbeat=Heartbeat.model_construct(interval_s=5.0, timeout_s=3.0),
        backoff=BackoffPlan.model_construct(initial_s=2.0, jitter="equal"),
        workload=(Workload.model_construct(sender="server", every_s=0.5, delivery="resume"),),
        subprotocols=("a", "b"),
    )
    assert options.resumes("server")
    assert not options.resumes("client")


def test_nothing_given_means_the_defaults() -> None:
    assert ClientOptions.parse({}) == ClientOptions()
    assert PeerOptions.parse({"heartbeat": None, "workload": None}) == PeerOptions()
