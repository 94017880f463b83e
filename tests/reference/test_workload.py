"""Workload messages and sessions."""

from __future__ import annotations

import json

import pytest

from chaos.reference.workload import (
    ACK_EVERY,
    REPLAY_MESSAGES_MAX,
    Message,
    Session,
    decode,
)


@pytest.mark.parametrize("size", [64, 65, 70, 71, 72, 73, 74, 80, 100, 1_000_000])
@pytest.mark.parametrize(
    ("number", "sender", "at_s"),
    [(1, "server", 0.0), (9_999_999, "client-5000", 2_591_999.123456), (12, "client-3", 1 / 3)],
)
def test_a_message_has_exactly_its_size(size: int, number: int, sender: str, at_s: float) -> None:
    text = Message(id=number, sender=sender, sent_at_s=at_s, size=size).encode()
    assert isinstance(text, str)
    assert len(text.encode()) == size
    row = json.loads(text)
    assert (row["id"], row["sender"]) == (number, sender)
    assert row["sent_at_s"] == pytest.approx(at_s, abs=0.5)


def test_the_text_of_a_message() -> None:
    message = Message(id=17, sender="client-3", sent_at_s=12.5, size=70)
    assert message.encode() == (
        '{"id":17,"sender":"client-3","sent_at_s":12.5,"pad":"' + "x" * 15 + '"}'
    )


def test_a_binary_message_holds_the_same_bytes() -> None:
    text = Message(id=1, sender="server", sent_at_s=1.0, size=99).encode()
    binary = Message(id=1, sender="server", sent_at_s=1.0, size=99, binary=True).encode()
    assert isinstance(text, str)
    assert binary == text.encode()
    assert decode(binary) == decode(text)


@pytest.mark.parametrize("data", ["", "hello", "[1]", "3", b"\xff\xfe", '{"id":', "[" * 100_000])
def test_what_is_not_an_object_is_not_ours(data: str | bytes) -> None:
    assert decode(data) is None


def number(session: Session, count: int) -> list[int]:
    return [session.next_message(0.0, 64, binary=False).id for _ in range(count)]


def test_ids_count_from_one_and_go_on_after_a_reconnection() -> None:
    session = Session(sender="server")
    session.opened()
    assert number(session, 2) == [1, 2]
    session.opened()
    assert number(session, 2) == [3, 4]
    assert not session.replay


def test_what_was_not_seen_is_replayed_and_what_was_is_forgotten() -> None:
    session = Session(sender="server", resume_out=True)
    number(session, 5)
    session.acknowledged(2)
    assert [one.id for one in session.replay] == [3, 4, 5]
    assert [one.id for one in session.resumed(4)] == [5]


def test_a_sender_that_lost_its_memory_goes_on_after_what_was_seen() -> None:
    session = Session(sender="server", resume_out=True)
    assert session.resumed(57) == ()
    assert number(session, 1) == [58]


def test_a_receiver_drops_what_it_has_seen_only_if_it_is_replayed() -> None:
    resuming, plain = Session(sender="c", resume_in=True), Session(sender="c")
    assert [resuming.received(n) for n in (1, 2, 2, 1, 3)] == [True, True, False, False, True]
    assert [plain.received(n) for n in (1, 2, 2)] == [True, True, True]
    assert resuming.opened() == '{"resume":3}'
    assert plain.opened() is None


def test_one_acknowledgement_per_so_many_messages() -> None:
    session = Session(sender="c", resume_in=True)
    acks = []
    for n in range(1, 2 * ACK_EVERY + 1):
        session.received(n)
        acks.append(session.ack_due())
    assert [ack for ack in acks if ack] == [
        f'{{"ack":{count}}}' for count in (ACK_EVERY, 2 * ACK_EVERY)
    ]
    assert Session(sender="c", unconfirmed=99).ack_due() is None


def test_the_replay_buffer_has_a_limit() -> None:
    session = Session(sender="server", resume_out=True)
    number(session, REPLAY_MESSAGES_MAX + 3)
    assert len(session.replay) == REPLAY_MESSAGES_MAX
    assert session.replay[0].id == 4


def test_kept_sends_come_back_in_order_and_once() -> None:
    session = Session(sender="c")
    first, second = (session.next_message(0.0, 64, binary=False) for _ in range(2))
    session.kept += [second, first]
    assert session.take_kept() == (first, second)
    assert session.take_kept() == ()
