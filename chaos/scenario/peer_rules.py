"""Rules of the peers: what a subject can do, and settings that only make sense together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from chaos.scenario.model import Entry, Server, Subject
from chaos.scenario.rules import Draft, Problem, Rule, Where
from chaos.vocabulary.actions import ACTIONS
from chaos.vocabulary.base import format_duration
from chaos.vocabulary.checks import CHECKS, Backoff
from chaos.vocabulary.policies import POLICIES, Reaction


def _one_way_to_run(draft: Draft) -> Iterator[Problem]:
    for side in ("server", "client"):
        subject: Subject = getattr(draft.scenario, side)
        ways = [key for key in ("use", "command", "url") if getattr(subject, key, None) is not None]
        if len(ways) > 1:
            yield Problem(
                where=(side, ways[1]),
                message=f"`{side}` has both `{ways[0]}` and `{ways[1]}`",
                expected="just one of them",
            )
        use = subject.use
        if use is not None and use != "reference" and not re.fullmatch(r".+:[^\W\d]\w*", use):
            near = get_close_matches(use, ["reference"], n=1)
            yield Problem(
                where=(side, "use"),
                message=f"`use` of `{side}` names nothing that can be run",
                expected="`reference`, `my.module:name` or `path/to/file.py:name`",
                nearest=near[0] if near else None,
            )


def _url(draft: Draft) -> Iterator[Problem]:
    url = draft.scenario.server.url
    if url is None:
        return
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        where: Where = ("server", "url")
        yield Problem(
            where=where,
            message="not the address of a WebSocket server",
            expected="ws://host:port/path or wss://host/path",
        )


def _positive_times(draft: Draft) -> Iterator[Problem]:
    """Times that would make a peer spin if they were zero."""
    scenario = draft.scenario
    rows: list[tuple[Where, float]] = [
        (("workload", position, "every"), row.every_s)
        for position, row in enumerate(scenario.workload)
        if "workload" not in draft.wrong
    ]
    for side in ("server", "client"):
        subject: Subject = getattr(scenario, side)
        if subject.heartbeat is not None:
            rows.append(((side, "heartbeat", "interval"), subject.heartbeat.interval_s))
            rows.append(((side, "heartbeat", "timeout"), subject.heartbeat.timeout_s))
    rows.append((("client", "connect_timeout"), scenario.client.connect_timeout_s))
    for where, value_s in rows:
        if value_s <= 0:
            yield Problem(
                where=where,
                message=f"`{where[-1]}` must not be zero",
                expected="more than 0s, such as 5s",
            )


def _backoff(draft: Draft) -> Iterator[Problem]:
    rows: list[tuple[Where, float, float]] = []
    if "client" not in draft.wrong:
        plan = draft.scenario.client.backoff
        rows.append((("client", "backoff", "initial"), plan.initial_s, plan.max_s))
    for position, expectation in enumerate(draft.scenario.expect):
        if expectation.check == "backoff":
            check = Backoff.model_validate(expectation.parameters)
            rows.append((("expect", position, "initial"), check.initial_s, check.max_s))
    for where, initial_s, max_s in rows:
        if initial_s > max_s:
            message = f"`initial` is longer than `max`, which is {format_duration(max_s)}"
            yield Problem(
                where=where, message=message, expected=f"at most {format_duration(max_s)}"
            )


def _policy(draft: Draft) -> Iterator[Problem]:
    policy = draft.scenario.client.policy
    if isinstance(policy, str):
        if policy not in POLICIES:
            near = get_close_matches(policy, POLICIES, n=1)
            yield Problem(
                where=("client", "policy"),
                message="unknown policy",
                expected=f"one of {', '.join(POLICIES)}",
                nearest=near[0] if near else None,
            )
        return
    reactions = [reaction.value for reaction in Reaction]
    for code, reaction in policy.items():
        where: Where = ("client", "policy", code)
        if not re.fullmatch(r"[1-4][0-9]{3}", code):
            yield Problem(
                where=where, message=f"`{code[:20]}` is not a close code", expected="1000 to 4999"
            )
        elif reaction not in reactions:
            message = f"unknown reaction to {code}"
            yield Problem(where=where, message=message, expected=f"one of {', '.join(reactions)}")


def _times_of_the_scenario(draft: Draft) -> Iterator[Problem]:
    scenario = draft.scenario
    end = format_duration(scenario.duration_s)
    judged = "settle_s" in scenario.model_fields_set or any(
        row.check == "delivers" for row in scenario.expect
    )
    if judged and scenario.settle_s >= scenario.duration_s:
        message = f"`settle` leaves nothing of the scenario: `duration` is {end}"
        # `settle` may be the default, then the place is the top of the file
        yield Problem(where=("settle",), message=message, expected=f"less than {end}")
    if "client" not in draft.wrong and scenario.client.start_spread_s >= scenario.duration_s:
        message = f"the last client starts after the end: `duration` is {end}"
        yield Problem(
            where=("client", "start_spread"), message=message, expected=f"less than {end}"
        )
    if not scenario.networks:
        yield Problem(
            where=("networks",), message="`networks` is empty", expected="at least one, or no key"
        )


def _senders(draft: Draft) -> Iterator[Problem]:
    for position, row in enumerate(draft.scenario.workload):
        how = _outside(draft, row.sender)
        if how is not None:
            yield Problem(
                where=("workload", position, "from"),
                message=f"the {row.sender} cannot send the workload: it is given by `{how}`",
                expected="a peer with `use`, such as `use: reference`",
            )


def _outside(draft: Draft, side: str) -> str | None:
    """Return the key by which a peer runs outside this process, or None."""
    subject: Subject = getattr(draft.scenario, side)
    if subject.command is not None:
        return "command"
    if isinstance(subject, Server) and subject.url is not None:
        return "url"
    return None


def _actions(draft: Draft) -> Iterator[Problem]:
    for position, entry in enumerate(draft.scenario.timeline):
        if entry.kind == "action":
            yield from _action(draft, position, entry)
        yield from _values(position, entry)
        yield from _clients(draft, position, entry)


def _action(draft: Draft, position: int, entry: Entry) -> Iterator[Problem]:
    action = ACTIONS[entry.word]
    where: Where = ("timeline", position, "by")
    if entry.by is None:
        expected = " or ".join(f"`by: {peer}`" for peer in action.peers)
        yield Problem(
            where=where, message=f"`action: {entry.word}` does not say who", expected=expected
        )
        return
    if entry.by not in action.peers:
        message = f"a {entry.by} cannot `{entry.word}`"
        yield Problem(where=where, message=message, expected=f"`by: {action.peers[0]}`")
        return
    if entry.by in draft.wrong:
        return
    how = _outside(draft, entry.by)
    if how == "url":
        yield Problem(
            where=where,
            message="the server is given by `url`: it runs elsewhere and takes no orders",
            expected="a fault of the link, or a server with `use` or `command`",
        )
    elif action.needs_process and how != "command":
        yield Problem(
            where=where,
            message=f"`{entry.word}` stops a child process, and the {entry.by} is not one",
            expected=f"a {entry.by} with `command`, or `fault: stall`",
        )
    elif how == "command" and not (action.needs_process or action.by_runner):
        yield Problem(
            where=where,
            message=f"a child process cannot be told to `{entry.word}`",
            expected="crash, restart or freeze",
        )


def _values(position: int, entry: Entry) -> Iterator[Problem]:
    """Parameters of one word that do not go together."""
    given = entry.parameters
    if entry.kind == "action" and entry.word == "reject":
        ways = [key for key in ("code", "status") if given.get(key) is not None]
        if len(ways) != 1:
            yield Problem(
                where=("timeline", position, ways[1] if ways else ""),
                message=f"`reject` has {'both' if ways else 'neither'} `code` {'and' if ways else 'nor'} `status`",
                expected="`status` refuses the handshake, `code` accepts and closes: just one",
            )
        if given.get("retry_after") is not None and "status" not in ways:
            message = "`retry_after` goes with a `status` only"
            yield Problem(
                where=("timeline", position, "retry_after"), message=message, expected="`status`"
            )
    if entry.kind == "toxic" and entry.word == "slicer":
        average, spread = given.get("average_size", 0), given.get("size_variation", 0)
        if spread and spread >= average:
            yield Problem(
                where=("timeline", position, "attributes", "size_variation"),
                message=f"`size_variation` must be below `average_size`, which is {average}",
                expected=f"at most {max(average - 1, 0)}",
            )


def _clients(draft: Draft, position: int, entry: Entry) -> Iterator[Problem]:
    if entry.clients is None:
        return
    where: Where = ("timeline", position, "clients")
    if not entry.clients:
        yield Problem(where=where, message="`clients` is empty", expected="at least one, or no key")
    count = draft.scenario.client.count
    for place, number in enumerate(entry.clients):
        if number < 1 or (number > count and "client" not in draft.wrong):
            yield Problem(
                where=(*where, place), message="there is no client of this number",
                expected=f"1 to {count}" if count > 1 else "1, or a `count` in `client`",
            )  # fmt: skip


def _checks_of_peers(draft: Draft) -> Iterator[Problem]:
    for position, expectation in enumerate(draft.scenario.expect):
        given = expectation.parameters
        if expectation.check == "detects_dead_peer":
            yield from _needs_heartbeat(draft, position, given)
        elif expectation.check == "no_leaks":
            yield from _needs_callable(draft, position, given)
        elif expectation.check in ("delivers", "single_handler"):
            yield from _needs_workload(draft, position, expectation.check, given)


def _needs_heartbeat(draft: Draft, position: int, given: Mapping[str, Any]) -> Iterator[Problem]:
    side = given.get("by", "client")
    subject: Subject = getattr(draft.scenario, side)
    if side not in draft.wrong and subject.use == "reference" and subject.heartbeat is None:
        yield Problem(
            where=("expect", position, "by"),
            message=f"the reference {side} has no heartbeat, and nothing else can tell a dead peer",
            expected=f"`heartbeat: {{interval: 5s, timeout: 3s}}` in `{side}`",
        )


def _needs_callable(draft: Draft, position: int, given: Mapping[str, Any]) -> Iterator[Problem]:
    sides = ("client", "server") if given.get("by", "both") == "both" else (given["by"],)
    outside = [side for side in sides if side not in draft.wrong and _outside(draft, side)]
    inside = [side for side in ("client", "server") if not _outside(draft, side)]
    if outside:
        expected = f"`by: {inside[0]}`" if inside else "no such expectation"
        yield Problem(
            where=("expect", position, "by"),
            message=f"`no_leaks` looks into this process, and the {outside[0]} runs outside it",
            expected=expected,
        )


def _needs_workload(
    draft: Draft, position: int, check: str, given: Mapping[str, Any]
) -> Iterator[Problem]:
    sender = given.get("from", "both")
    senders = {row.sender for row in draft.scenario.workload}
    senders |= {
        entry.by
        for entry in draft.scenario.timeline
        if entry.word == "send" and entry.kind == "action" and entry.by is not None
    }
    if sender not in senders and not (sender == "both" and senders):
        whose = "nobody sends" if sender == "both" else f"the {sender} does not send"
        yield Problem(
            where=("expect", position, "from" if sender != "both" else ""),
            message=f"`{check}` has nothing to judge: {whose} workload messages",
            expected="a `workload`",
        )


def _known_checks(draft: Draft) -> Iterator[Problem]:
    """A `delivers`, `handshake`, `herd` or `cost` without a bound would pass whatever happens."""
    for position, expectation in enumerate(draft.scenario.expect):
        settings = CHECKS.get(expectation.check)
        if settings is None or expectation.check not in ("delivers", "handshake", "herd", "cost"):
            continue
        bounds = [
            field.alias or name
            for name, field in settings.model_fields.items()
            if name not in ("after", "sender")
        ]
        if not any(key in expectation.parameters for key in bounds):
            yield Problem(
                where=("expect", position),
                message=f"`{expectation.check}` states no bound: it could not fail",
                expected=f"one of {', '.join(bounds)}",
            )


_BOTH = frozenset({"server", "client"})
_NONE: frozenset[str] = frozenset()
PEER_RULES: tuple[tuple[Rule, frozenset[str]], ...] = (
    (_one_way_to_run, _NONE),
    (_url, _NONE),
    (_positive_times, _NONE),
    (_backoff, _NONE),
    (_policy, _NONE),
    (_times_of_the_scenario, frozenset({"top"})),
    (_senders, frozenset({"workload"}) | _BOTH),
    (_actions, _NONE),
    (_checks_of_peers, frozenset({"workload", "timeline"})),
    (_known_checks, _NONE),
)
