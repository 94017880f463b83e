"""Outcomes: what follows from an ending or a refusal, and how Retry-After is read."""

from __future__ import annotations

import pytest

from chaos.reference.heartbeat import HEARTBEAT_CODE
from chaos.reference.outcome import (
    Ended,
    Refused,
    format_retry_after,
    parse_retry_after,
    reaction_to,
    refused_by_http,
)
from chaos.vocabulary.policies import POLICIES, Reaction

RFC = POLICIES["rfc"]
# Sun, 06 Nov 1994 08:49:37 GMT, the example date of RFC 9110 §5.6.7
EXAMPLE_S = 784_111_777.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("999999999", 3600.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 10.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, EXAMPLE_S - 10) == seconds


def test_a_date_counts_from_the_servers_own_clock() -> None:
    headers = {
        "retry-after": "Sun, 06 Nov 1994 08:49:37 GMT",
        "date": "Sun, 06 Nov 1994 08:49:30 GMT",
    }
    assert refused_by_http(503, headers, EXAMPLE_S + 9_999).retry_after_s == 7.0


def test_retry_after_is_written_in_whole_seconds_never_too_few() -> None:
    assert [format_retry_after(one) for one in (0.0, 0.2, 7.0, 7.01)] == ["0", "1", "7", "8"]


@pytest.mark.parametrize(
    ("outcome", "times", "reaction"),
    [
        (Ended(code=1006), 1, Reaction.BACKOFF),
        (Ended(code=1005), 1, Reaction.BACKOFF),
        (Ended(code=4000), 1, Reaction.NEVER),
        (Ended(code=4100), 1, Reaction.BACKOFF),
        (Ended(code=1013), 1, Reaction.LONG),
        (Ended(code=3000), 1, Reaction.AUTH),
        (Refused(kind="http", status=401), 1, Reaction.AUTH),
        (Refused(kind="http", status=503), 9, Reaction.BACKOFF),
        (Refused(kind="http", status=404), 3, Reaction.LONG),
        (Refused(kind="http", status=404), 4, Reaction.NEVER),
        (Refused(kind="http", status=426), 1, Reaction.NEVER),
        (Refused(kind="tls"), 1, Reaction.NEVER),
        (Refused(kind="protocol"), 1, Reaction.BACKOFF),
        (Refused(kind="protocol"), 2, Reaction.NEVER),
        (Refused(kind="network"), 99, Reaction.BACKOFF),
        (Refused(kind="timeout"), 99, Reaction.BACKOFF),
        (Refused(kind="closed"), 99, Reaction.BACKOFF),
    ],
)
def test_each_outcome_has_its_reaction(
    outcome: Ended | Refused, times: int, reaction: Reaction
) -> None:
    assert reaction_to(outcome, RFC, times) is reaction


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_takes_a_failed_heartbeat_for_a_final_refusal(name: str) -> None:
    assert POLICIES[name].on_close(HEARTBEAT_CODE) in (Reaction.NOW, Reaction.BACKOFF)


def test_outcomes_explain_themselves() -> None:
    assert str(Ended(code=4000, reason="no", by="peer")) == "close 4000 'no' by peer"
    assert str(Refused(kind="http", status=503)) == "handshake refused: http status 503"
    assert str(Refused(kind="closed", detail="x")) == "handshake refused: closed (x)"
