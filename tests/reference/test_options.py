"""Options: what the run passes as plain values becomes frozen settings."""

from __future__ import annotations

import pytest

from chaos.reference.options import (
    BackoffOptions,
    ClientOptions,
    HeartbeatOptions,
    PeerOptions,
    WorkloadOptions,
    resolve_policy,
)
from chaos.vocabulary.policies import POLICIES, Reaction


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
        heartbeat=HeartbeatOptions(interval_s=5.0, timeout_s=3.0),
        backoff=BackoffOptions(initial_s=2.0, jitter="equal"),
        workload=(WorkloadOptions(sender="server", every_s=0.5, delivery="resume"),),
        subprotocols=("a", "b"),
    )
    assert options.resumes("server")
    assert not options.resumes("client")


def test_nothing_given_means_the_defaults() -> None:
    assert ClientOptions.parse({}) == ClientOptions()
    assert PeerOptions.parse({"heartbeat": None, "workload": None}) == PeerOptions()


def test_a_mapping_extends_the_rfc_policy() -> None:
    policy = resolve_policy({4000: "backoff", "1012": "never", 404: "backoff"})
    assert policy.on_close(4000) is Reaction.BACKOFF
    assert policy.on_close(1012) is Reaction.NEVER
    assert policy.on_close(4001) is Reaction.NEVER
    assert policy.on_status(404, 99) is Reaction.BACKOFF
    assert policy.on_status(401) is Reaction.AUTH


def test_a_policy_is_found_by_its_name() -> None:
    assert resolve_policy("pusher") is POLICIES["pusher"]
    assert resolve_policy(POLICIES["discord"]) is POLICIES["discord"]


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of rfc, pusher.*got 'rcf'"):
        resolve_policy("rcf")
    with pytest.raises(ValueError, match="sometimes"):
        resolve_policy({4000: "sometimes"})
