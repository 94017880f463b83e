"""Holds the rules between values, each a pure function from a scenario to its problems, and the table that runs them.

First come the rules of the peers, then those of the timeline, then those of `paths`; the rules of expectations that
name timeline entries stand in `rules.py`. A new rule is a generator of problems and a row of `RULES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from chaos.scenario.model import Entry, Scenario
from chaos.scenario.nodes import nearest_name
from chaos.scenario.overlaps import STEPS_MAX, count_steps, validate_crashes, validate_overlaps
from chaos.scenario.paths import LEGS, QUEUE_BYTES_MIN, WAYS, Direction
from chaos.scenario.rules import (
    EPSILON_S,
    Draft,
    Problem,
    Rule,
    Where,
    last_end_s,
    last_start_s,
    show_s,
    validate_expectations,
)
from chaos.vocabulary.actions import ACTIONS
from chaos.vocabulary.base import format_duration, format_size
from chaos.vocabulary.checks import CHECKS, Backoff
from chaos.vocabulary.policies import POLICIES, Reaction
from chaos.vocabulary.word import Peer
from chaos.wire.messages import BadReader, parse_reader

_PEERS: tuple[Peer, Peer] = ("server", "client")


def _validate_ways_to_run(draft: Draft) -> Iterator[Problem]:
    for side in _PEERS:
        subject = draft.subject(side)
        ways = [key for key in ("use", "command", "url") if getattr(subject, key, None) is not None]
        if len(ways) > 1:
            yield Problem(
                (side, ways[1]),
                f"`{side}` has both `{ways[0]}` and `{ways[1]}`",
                "just one of them",
            )
        use = subject.use
        if use is not None and use != "reference" and not re.fullmatch(r".+:[^\W\d]\w*", use):
            yield Problem(
                (side, "use"),
                f"`use` of `{side}` names nothing that can be run",
                "`reference`, `my.module:name` or `path/to/file.py:name`",
                nearest_name(use, ["reference"]),
            )


def _validate_url(draft: Draft) -> Iterator[Problem]:
    url = draft.scenario.server.url
    if url is None:
        return
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        yield Problem(
            ("server", "url"),
            "not the address of a WebSocket server",
            "ws://host:port/path or wss://host/path",
        )


def _validate_positive_times(draft: Draft) -> Iterator[Problem]:
    """Refuse times that would make a peer spin because they are zero."""
    times: dict[Where, float] = {
        ("client", "connect_timeout"): draft.scenario.client.connect_timeout_s
    }
    if "workload" not in draft.wrong:
        for position, row in enumerate(draft.scenario.workload):
            times["workload", position, "every"] = row.every_s
    for side in _PEERS:
        heartbeat = draft.subject(side).heartbeat
        if heartbeat is not None:
            times[side, "heartbeat", "interval"] = heartbeat.interval_s
            times[side, "heartbeat", "timeout"] = heartbeat.timeout_s
    for where, value_s in times.items():
        if value_s <= 0:
            yield Problem(where, f"`{where[-1]}` must not be zero", "more than 0s, such as 5s")


def _validate_backoff(draft: Draft) -> Iterator[Problem]:
    caps: dict[Where, tuple[float, float]] = {}
    if "client" not in draft.wrong:
        plan = draft.scenario.client.backoff
        caps["client", "backoff", "initial"] = plan.initial_s, plan.max_s
    for position, expectation in enumerate(draft.scenario.expect):
        if expectation.check == "backoff":
            check = Backoff.model_validate(expectation.parameters)
            caps["expect", position, "initial"] = check.initial_s, check.max_s
    for where, (initial_s, max_s) in caps.items():
        if initial_s > max_s:
            longest = format_duration(max_s)
            yield Problem(
                where, f"`initial` is longer than `max`, which is {longest}", f"at most {longest}"
            )


def _validate_policy(draft: Draft) -> Iterator[Problem]:
    policy = draft.scenario.client.policy
    if isinstance(policy, str):
        if policy not in POLICIES:
            yield Problem(
                ("client", "policy"),
                "unknown policy",
                f"one of {', '.join(POLICIES)}",
                nearest_name(policy, POLICIES),
            )
        return
    reactions = [reaction.value for reaction in Reaction]
    for code, reaction in policy.items():
        where: Where = ("client", "policy", code)
        if not re.fullmatch(r"[1-4][0-9]{3}", code):
            yield Problem(where, f"`{code[:20]}` is not a close code", "1000 to 4999")
        elif reaction not in reactions:
            yield Problem(where, f"unknown reaction to {code}", f"one of {', '.join(reactions)}")


def _validate_times(draft: Draft) -> Iterator[Problem]:
    scenario = draft.scenario
    end = format_duration(scenario.duration_s)
    judged = "settle_s" in scenario.model_fields_set or any(
        row.check == "delivers" for row in scenario.expect
    )
    if judged and scenario.settle_s >= scenario.duration_s:
        # where `settle` is the default, the place is the top of the file
        yield Problem(
            ("settle",),
            f"`settle` leaves nothing of the scenario: `duration` is {end}",
            f"less than {end}",
        )
    if "client" not in draft.wrong and scenario.client.start_spread_s >= scenario.duration_s:
        yield Problem(
            ("client", "start_spread"),
            f"the last client starts after the end: `duration` is {end}",
            f"less than {end}",
        )
    if not scenario.networks:
        yield Problem(("networks",), "`networks` is empty", "at least one, or no key")


def _validate_senders(draft: Draft) -> Iterator[Problem]:
    for position, row in enumerate(draft.scenario.workload):
        how = _runs_outside_by(draft, row.sender)
        if how is not None:
            yield Problem(
                ("workload", position, "from"),
                f"the {row.sender} cannot send the workload: it is given by `{how}`",
                "a peer with `use`, such as `use: reference`",
            )


def _validate_ids(draft: Draft) -> Iterator[Problem]:
    for position, row in enumerate(draft.scenario.workload):
        where: Where = ("workload", position, "id")
        if row.id_at is None:
            continue
        try:
            reader = parse_reader(row.id_at)
        except BadReader as error:
            yield Problem(where, f"`id` is {error}", error.expected)
            continue
        own = draft.subject(row.sender).use == "reference" and row.sender not in draft.wrong
        if own and reader != parse_reader("/id"):
            yield Problem(
                where,
                f"the reference {row.sender} writes the number of a message at the top of its JSON",
                "no `id`, or a peer of your own",
            )


def _runs_outside_by(draft: Draft, side: Peer) -> str | None:
    """Return the key by which a peer runs outside this process, or None."""
    subject = draft.subject(side)
    if subject.command is not None:
        return "command"
    return "url" if getattr(subject, "url", None) is not None else None


def _validate_actions(draft: Draft) -> Iterator[Problem]:
    for position, entry in enumerate(draft.scenario.timeline):
        if entry.kind == "action":
            yield from _validate_actor(draft, position, entry)
        yield from _validate_parameters(position, entry)
        yield from _validate_clients(draft, position, entry)


def _validate_actor(draft: Draft, position: int, entry: Entry) -> Iterator[Problem]:
    action = ACTIONS[entry.word]
    where: Where = ("timeline", position, "by")
    if entry.by is None:
        expected = " or ".join(f"`by: {peer}`" for peer in action.peers)
        yield Problem(where, f"`action: {entry.word}` does not say who", expected)
        return
    how = None if entry.by in draft.wrong else _runs_outside_by(draft, entry.by)
    if entry.by not in action.peers:
        yield Problem(where, f"a {entry.by} cannot `{entry.word}`", f"`by: {action.peers[0]}`")
    elif entry.by in draft.wrong:
        return
    elif how == "url":
        yield Problem(
            where,
            "the server is given by `url`: it runs elsewhere and takes no orders",
            "a fault of the link, or a server with `use` or `command`",
        )
    elif action.needs_process and how != "command":
        yield Problem(
            where,
            f"`{entry.word}` stops a child process, and the {entry.by} is not one",
            f"a {entry.by} with `command`, or `fault: stall`",
        )
    elif how == "command" and not (action.needs_process or action.by_runner):
        yield Problem(
            where,
            f"a child process cannot be told to `{entry.word}`",
            "crash, restart or freeze",
        )


def _validate_parameters(position: int, entry: Entry) -> Iterator[Problem]:
    """Refuse parameters of one word that do not go together."""
    given = entry.parameters
    if entry.kind == "action" and entry.word == "reject":
        ways = [key for key in ("code", "status") if given.get(key) is not None]
        if len(ways) != 1:
            yield Problem(
                ("timeline", position, ways[1] if ways else ""),
                f"`reject` has {'both' if ways else 'neither'} `code` {'and' if ways else 'nor'} `status`",
                "`status` refuses the handshake, `code` accepts and closes: just one",
            )
        if given.get("retry_after") is not None and "status" not in ways:
            yield Problem(
                ("timeline", position, "retry_after"),
                "`retry_after` goes with a `status` only",
                "`status`",
            )
    if entry.kind == "toxic" and entry.word == "slicer":
        average, spread = given.get("average_size", 0), given.get("size_variation", 0)
        if spread and spread >= average:
            yield Problem(
                ("timeline", position, "attributes", "size_variation"),
                f"`size_variation` must be below `average_size`, which is {average}",
                f"at most {max(average - 1, 0)}",
            )


def _validate_clients(draft: Draft, position: int, entry: Entry) -> Iterator[Problem]:
    where: Where = ("timeline", position, "clients")
    if entry.clients is not None and not entry.clients:
        yield Problem(where, "`clients` is empty", "at least one, or no key")
    count = draft.scenario.client.count
    for place, number in enumerate(entry.clients or ()):
        if number < 1 or (number > count and "client" not in draft.wrong):
            yield Problem(
                (*where, place),
                "there is no client of this number",
                f"1 to {count}" if count > 1 else "1, or a `count` in `client`",
            )


def _validate_checks(draft: Draft) -> Iterator[Problem]:
    for position, expectation in enumerate(draft.scenario.expect):
        given = expectation.parameters
        if expectation.check == "detects_dead_peer":
            yield from _require_heartbeat(draft, position, given)
        elif expectation.check == "no_leaks":
            yield from _require_callable(draft, position, given)
        elif expectation.check in ("delivers", "single_handler"):
            yield from _require_workload(draft, position, expectation.check, given)


def _require_heartbeat(draft: Draft, position: int, given: Mapping[str, Any]) -> Iterator[Problem]:
    side = given.get("by", "client")
    subject = draft.subject(side)
    if side not in draft.wrong and subject.use == "reference" and subject.heartbeat is None:
        yield Problem(
            ("expect", position, "by"),
            f"the reference {side} has no heartbeat, and nothing else can tell a dead peer",
            f"`heartbeat: {{interval: 5s, timeout: 3s}}` in `{side}`",
        )


def _require_callable(draft: Draft, position: int, given: Mapping[str, Any]) -> Iterator[Problem]:
    peers: tuple[Peer, Peer] = ("client", "server")
    inside = [side for side in peers if not _runs_outside_by(draft, side)]
    for side in peers if given.get("by", "both") == "both" else (given["by"],):
        if side not in draft.wrong and side not in inside:
            yield Problem(
                ("expect", position, "by"),
                f"`no_leaks` looks into this process, and the {side} runs outside it",
                f"`by: {inside[0]}`" if inside else "no such expectation",
            )
            return


def _require_workload(
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
            ("expect", position, "from" if sender != "both" else ""),
            f"`{check}` has nothing to judge: {whose} workload messages",
            "a `workload`",
        )


def _validate_bounds(draft: Draft) -> Iterator[Problem]:
    """A `delivers`, `handshake`, `herd` or `cost` without a bound would pass whatever happens."""
    for position, expectation in enumerate(draft.scenario.expect):
        if expectation.check not in ("delivers", "handshake", "herd", "cost"):
            continue
        bounds = [
            field.alias or name
            for name, field in CHECKS[expectation.check].model_fields.items()
            if name not in ("after", "sender")
        ]
        if not any(key in expectation.parameters for key in bounds):
            yield Problem(
                ("expect", position),
                f"`{expectation.check}` states no bound: it could not fail",
                f"one of {', '.join(bounds)}",
            )


def _validate_names(draft: Draft) -> Iterator[Problem]:
    taken: set[str] = set()
    for position, entry in enumerate(draft.scenario.timeline):
        if entry.name in taken:
            yield Problem(
                ("timeline", position, "name"),
                "two timeline entries have this name",
                "a name of its own",
            )
        if entry.name is not None:
            taken.add(entry.name)


def _validate_end(draft: Draft) -> Iterator[Problem]:
    for position, entry in enumerate(draft.scenario.timeline):
        yield from _validate_end_of(draft.scenario.duration_s, position, entry)


def _validate_end_of(duration_s: float, position: int, entry: Entry) -> Iterator[Problem]:
    end = show_s(duration_s)
    before = f"a time before `duration`, {end}"
    start, last = last_start_s(entry), last_end_s(entry, duration_s)
    if start is None or last is None or entry.at_s is None:
        if entry.for_s is not None and entry.for_s >= duration_s:
            yield Problem(
                ("timeline", position, "for"),
                f"the window is as long as the scenario: `duration` is {end}",
                "a shorter one",
            )
    elif entry.at_s >= duration_s:
        yield Problem(
            ("timeline", position, "at"),
            "the entry starts at or after the end of the scenario",
            before,
        )
    elif start >= duration_s:
        yield Problem(
            ("timeline", position, "times"),
            f"the last repetition starts at {show_s(start)}, after the end of the scenario",
            before,
        )
    elif entry.for_s is not None and last > duration_s + EPSILON_S:
        yield Problem(
            ("timeline", position, "for"),
            f"the window reaches past the end: it ends at {show_s(last)}, `duration` is {end}",
            f"at most {show_s(duration_s - start)}, or no `for`: to the end",
        )


def _validate_repetition(draft: Draft) -> Iterator[Problem]:
    for position, entry in enumerate(draft.scenario.timeline):
        where = ("timeline", position, "every")
        if entry.every_s is None:
            continue
        if entry.every_s <= 0:
            yield Problem(where, "`every` must not be zero", "more than 0s, such as 10s")
        elif entry.has_window and entry.for_s is None:
            yield Problem(
                where,
                "a window that is repeated needs `for`: without it, it lasts to the end",
                "`for`, at most as long as `every`",
            )
        elif entry.for_s is not None and entry.every_s < entry.for_s - EPSILON_S:
            yield Problem(
                where,
                "`every` is shorter than `for`: the windows would overlap",
                f"at least {show_s(entry.for_s)}",
            )
    steps = count_steps(draft.scenario)
    if steps > STEPS_MAX:
        yield Problem(
            ("timeline", 0),
            f"the timeline has {steps} steps once its repetitions are written out",
            f"at most {STEPS_MAX}",
        )


def _validate_queues(draft: Draft) -> Iterator[Problem]:
    """A queue waits for a bandwidth, and must hold a packet."""
    paths = draft.scenario.paths
    for leg in LEGS:
        row = paths.leg(leg) if paths is not None else None
        if row is None:
            continue
        limited = {way: row.way(way).bytes_per_s is not None for way in WAYS}
        parts: list[tuple[Where, Direction | None, bool]] = [
            (("paths", leg), row, any(limited.values())),
            *((("paths", leg, way), getattr(row, way), limited[way]) for way in WAYS),
        ]
        for where, part, has_bandwidth in parts:
            if part is None or part.queue_bytes is None:
                continue
            if not has_bandwidth:
                yield Problem(
                    (*where, "queue"),
                    "`queue` without `bandwidth`: nothing would ever wait in it",
                    "both, or neither",
                )
            elif part.queue_bytes < QUEUE_BYTES_MIN:
                yield Problem(
                    (*where, "queue"),
                    "`queue` is too small for one packet: no data would ever pass",
                    f"at least {format_size(QUEUE_BYTES_MIN)}",
                )


def _validate_shared(draft: Draft) -> Iterator[Problem]:
    """Refuse `clients` on what acts on all of them: it would be ignored."""
    for position, entry in enumerate(draft.scenario.timeline):
        words = entry.settings()
        what = words.shared(entry.by)
        if what is None or entry.clients is None:
            continue
        ways = [f", or `{key}: client`" for key in ("leg", "host") if hasattr(words, key)]
        ways += [", or `by: client`" for peer in getattr(words, "peers", ()) if peer == "client"]
        yield Problem(
            ("timeline", position, "clients"),
            f"`clients` with `{entry.word}` on {what}, which all clients share",
            f"no `clients`{''.join(ways)}",
        )


# Each rule with the sections that it leans on: where one of them has a mistake of its own, the rule is left out.
RULES: Mapping[Rule, frozenset[str]] = {
    _validate_ways_to_run: frozenset(),
    _validate_url: frozenset(),
    _validate_positive_times: frozenset(),
    _validate_backoff: frozenset(),
    _validate_policy: frozenset(),
    _validate_times: frozenset({"top"}),
    _validate_senders: frozenset({"workload", "server", "client"}),
    _validate_ids: frozenset({"workload"}),
    _validate_actions: frozenset(),
    _validate_checks: frozenset({"workload", "timeline"}),
    _validate_bounds: frozenset(),
    _validate_names: frozenset(),
    _validate_end: frozenset({"top"}),
    _validate_repetition: frozenset(),
    validate_overlaps: frozenset({"top"}),
    validate_crashes: frozenset({"timeline"}),
    _validate_queues: frozenset({"top"}),
    _validate_shared: frozenset(),
    validate_expectations: frozenset(),
}


# Those without which a run cannot be made or judged at all: the others may be broken by what varies a scenario.
NEEDED_RULES: Mapping[Rule, frozenset[str]] = {
    rule: RULES[rule]
    for rule in (
        _validate_ways_to_run,
        _validate_url,
        _validate_positive_times,
        _validate_backoff,
        _validate_policy,
        _validate_ids,
    )
}


def find_problems(
    scenario: Scenario,
    *,
    wrong: frozenset[str] = frozenset(),
    broken_names: frozenset[str] = frozenset(),
    rules: Mapping[Rule, frozenset[str]] = RULES,
) -> list[Problem]:
    """Return every mistake between the values of a scenario, by these rules.

    `wrong` are the sections of which something is missing here because it was a mistake by itself (`top`,
    `server`, `client`, `workload`, `timeline`). `broken_names` are the names of timeline entries left out.
    """
    draft = Draft(scenario=scenario, wrong=wrong, broken_names=broken_names)
    return [
        problem for rule, needs in rules.items() if not needs & wrong for problem in rule(draft)
    ]
