"""What a client states of its policy, and what becomes of it."""

from __future__ import annotations

import pytest

from chaos.vocabulary.policies import POLICIES, Policy, Reaction


def test_a_mapping_extends_the_rfc_policy() -> None:
    policy = Policy.parse({4000: "backoff", "1012": "never", 404: "backoff"})
    assert policy.on_close(4000) is Reaction.BACKOFF
    assert policy.on_close(1012) is Reaction.NEVER
    assert policy.on_close(4001) is Reaction.NEVER
    assert policy.on_status(404, 99) is Reaction.BACKOFF
    assert policy.on_status(401) is Reaction.AUTH


def test_a_policy_is_found_by_its_name() -> None:
    assert Policy.parse("pusher") is POLICIES["pusher"]
    assert Policy.parse(POLICIES["discord"]) is POLICIES["discord"]


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"rfc, pusher.*'rcf'"):
        Policy.parse("rcf")
    with pytest.raises(ValueError, match="sometimes"):
        Policy.parse({4000: "sometimes"})
