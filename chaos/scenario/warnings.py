"""Finds what is valid in a scenario and cannot work: bounds that nobody can keep, entries that touch nothing.

Each rule is a pure function from a scenario to its warnings; the first line of its docstring says what it warns of,
and stands in the documentation. A rule only warns of what the figures of a scenario show: where the conduct of a peer
decides that is not the reference, it is silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from chaos.scenario.model import BackoffPlan, Entry, Expectation, Scenario, Server, Workload
from chaos.scenario.paths import LEGS, WAYS, Delay, Leg
from chaos.scenario.rules import EPSILON_S, Problem, label, last_end_s, show_s, speaks_of
from chaos.vocabulary import checks
from chaos.vocabulary.faults import IdleTimeout, MaxLifetime
from chaos.vocabulary.policies import Policy
from chaos.vocabulary.word import Peer

STEADY_QUIET_S = 1.0  # without a close, before the steady state is there
SLOPE_CYCLES_MIN = 5
DELAYS_COUNTED_MAX = 1000
# an attempt that is answered takes some time too, so that this many of them cannot be had by waiting shorter
ATTEMPT_S = 0.001

Warn = Callable[[Scenario], Iterator[Problem]]
Expected = tuple[int, Expectation]


def _expected(scenario: Scenario, *words: str) -> Iterator[Expected]:
    for position, row in enumerate(scenario.expect):
        if row.check in words:
            yield position, row


def _entry_of(scenario: Scenario, row: Expectation) -> tuple[int, Entry] | None:
    position = speaks_of(scenario, row)
    return None if position is None else (position, scenario.timeline[position])


def _end_s(scenario: Scenario, entry: Entry) -> float:
    """Return when the last window of an entry ends, at the latest; of one that waits for an event, the end."""
    end_s = last_end_s(entry, scenario.duration_s)
    return scenario.duration_s if end_s is None else end_s


def _window_s(scenario: Scenario, entry: Entry) -> float:
    """Return how long each window of an entry lasts, at most; 0 for an instant."""
    if not entry.has_window:
        return 0.0
    if entry.for_s is not None:
        return entry.for_s
    return scenario.duration_s - (entry.at_s or 0.0)


def detection_bound_s(scenario: Scenario, by: Peer, entry: Entry) -> float | None:
    """Return K × (I + T) + C + the round trip that `paths` and toxics add meanwhile; None where it has no bound."""
    subject = scenario.server if by == "server" else scenario.client
    beat = subject.heartbeat
    if beat is None:
        return None
    # the reference peers say so at once; of another, only what its scenario says is known
    stated = subject.use != "reference" and "close_timeout_s" in subject.model_fields_set
    close_s = subject.close_timeout_s if stated else 0.0
    added_s = scenario.paths.round_trip_s() if scenario.paths is not None else 0.0
    for other in scenario.timeline:
        if other.at_s is None or entry.at_s is None:
            continue
        meets = other.at_s <= _end_s(scenario, entry) and entry.at_s <= _end_s(scenario, other)
        if meets:
            added_s += other.settings().round_trip_s(other.stream)
    bound_s = subject.misses * (beat.interval_s + beat.timeout_s) + close_s + added_s
    return bound_s if math.isfinite(bound_s) else None


# the expectations' own bounds


def warn_of_absence_too_short(scenario: Scenario) -> Iterator[Problem]:
    """`never_reconnects` with less than 2 × `backoff.max` left after its entry: a client may still be waiting."""
    needed_s = 2 * scenario.client.backoff.max_s
    for position, row in _expected(scenario, "never_reconnects"):
        found = _entry_of(scenario, row)
        if found is None or found[1].at_s is None:
            continue
        left_s = scenario.duration_s - found[1].at_s
        if left_s < needed_s - EPSILON_S:
            yield Problem(
                ("expect", position, "after"),
                f"`never_reconnects` cannot be judged: {show_s(left_s)} are left after "
                f"`{label(scenario, found[0])}` begins, and a client may wait {show_s(needed_s)}",
                f"a `duration` of at least {show_s(found[1].at_s + needed_s)}, or a shorter `backoff: {{max: …}}`",
            )


def warn_of_detection_too_tight(scenario: Scenario) -> Iterator[Problem]:
    """`detects_dead_peer` with a `within` below the heartbeat's own bound: a right peer fails now and then."""
    for position, row in _expected(scenario, "detects_dead_peer"):
        settings = checks.DetectsDeadPeer.model_validate(row.parameters)
        found = _entry_of(scenario, row)
        bound_s = None if found is None else detection_bound_s(scenario, settings.by, found[1])
        if bound_s is not None and settings.within_s < bound_s - EPSILON_S:
            yield Problem(
                ("expect", position, "within"),
                f"the {settings.by} may take longer: its heartbeat notices a dead path within {show_s(bound_s)}",
                f"at least {show_s(bound_s)}, or a faster `heartbeat`",
            )


def warn_of_window_too_short(scenario: Scenario) -> Iterator[Problem]:
    """`detects_dead_peer` during a window that heals and is over before the heartbeat must have noticed."""
    for position, row in _expected(scenario, "detects_dead_peer"):
        settings = checks.DetectsDeadPeer.model_validate(row.parameters)
        found = _entry_of(scenario, row)
        if found is None:
            continue
        entry, words = found[1], found[1].settings()
        bound_s, window_s = (
            detection_bound_s(scenario, settings.by, entry),
            _window_s(scenario, entry),
        )
        heals = words.silences() and not words.lasting and not words.deadly
        if heals and bound_s is not None and window_s < bound_s - EPSILON_S:
            yield Problem(
                ("expect", position, "during"),
                f"`{label(scenario, found[0])}` lasts {show_s(window_s)}, and the path may be well again before the "
                f"{settings.by} must notice, which takes up to {show_s(bound_s)}",
                f"a `for` of at least {show_s(bound_s)}, or a faster `heartbeat`",
            )


def warn_of_reconnection_too_tight(scenario: Scenario) -> Iterator[Problem]:
    """`reconnects` with a `within` below the pause that the client's own schedule allows: it fails now and then."""
    plan, client = scenario.client.backoff, scenario.client
    for position, row in _expected(scenario, "reconnects"):
        settings = checks.Reconnects.model_validate(row.parameters)
        found = _entry_of(scenario, row)
        if found is None or found[1].at_s is None or client.use != "reference":
            continue
        entry, words = found[1], found[1].settings()
        failures = _delays_in(scenario, plan, entry) - 1
        pause_s = min(plan.max_s, plan.initial_s * plan.factor**failures)
        if not failures and plan.first_delay == "none":
            pause_s = 0.0
        hangs = entry.has_window and words.swallows and words.lasting
        pause_s += client.connect_timeout_s if hangs and failures else 0.0
        end_s = found[1].at_s + (entry.for_s or 0.0)
        if end_s + settings.stable_for_s > scenario.duration_s + EPSILON_S:
            yield Problem(
                ("expect", position, "stable_for"),
                f"the run ends {show_s(max(0.0, scenario.duration_s - end_s))} after `{label(scenario, found[0])}`, "
                f"before a connection can have lived for {show_s(settings.stable_for_s)}",
                "a shorter `stable_for`, or a longer `duration`",
            )
        if settings.within_s < pause_s - EPSILON_S:
            yield Problem(
                ("expect", position, "within"),
                f"a client may take longer: `backoff` and `connect_timeout` allow a pause of {show_s(pause_s)} after "
                f"`{label(scenario, found[0])}`",
                f"more than {show_s(pause_s)}, or a shorter `backoff: {{max: …}}`",
            )


def warn_of_too_few_delays(scenario: Scenario) -> Iterator[Problem]:
    """`backoff` with more `attempts_min` than a client is likely to make in the windows that it speaks of."""
    for position, row in _expected(scenario, "backoff"):
        settings = checks.Backoff.model_validate(row.parameters)
        found = _entry_of(scenario, row)
        since_s = 0.0 if found is None else found[1].at_s
        timed = all(entry.at_s is not None for entry in scenario.timeline)
        if since_s is None or not timed or scenario.server.use != "reference":
            continue
        plan = scenario.client.backoff
        count = sum(
            entry.times * _delays_in(scenario, plan, entry)
            for entry in scenario.timeline
            if entry.at_s is not None and _end_s(scenario, entry) >= since_s
        )
        if count < settings.attempts_min:
            yield Problem(
                ("expect", position, "attempts_min" if "attempts_min" in row.parameters else ""),
                f"`backoff` needs {settings.attempts_min} delays, and a client will make about {count}",
                "a longer window in which attempts fail, more entries, or fewer `attempts_min`",
            )


def _delays_in(scenario: Scenario, plan: BackoffPlan, entry: Entry) -> int:
    """Return how many delays a client makes on average because of one occurrence of an entry."""
    words, window_s = entry.settings(), _window_s(scenario, entry)
    if words.silences() or words.swallows:
        attempt_s = min(scenario.client.connect_timeout_s, window_s or ATTEMPT_S)
    else:
        attempt_s = ATTEMPT_S
    share = {"none": 1.0, "equal": 0.75}.get(plan.jitter, 0.5)
    count, at_s, cap_s = 1, 0.0, plan.initial_s
    while count < DELAYS_COUNTED_MAX:
        at_s += share * cap_s + attempt_s
        if at_s >= window_s:
            break
        count, cap_s = count + 1, min(plan.max_s, cap_s * plan.factor)
    return count


def warn_of_too_few_cycles(scenario: Scenario) -> Iterator[Problem]:
    """`no_leaks` with more `cycles` than the timeline makes clients reconnect."""
    for position, row in _expected(scenario, "no_leaks"):
        cycles = checks.NoLeaks.model_validate(row.parameters).cycles
        if cycles is None:
            continue
        count = min(
            sum(
                entry.times * _cycles_of(scenario, entry)
                for entry in scenario.timeline
                if entry.clients is None or client in entry.clients
            )
            for client in range(1, scenario.client.count + 1)
        )
        if count < cycles:
            yield Problem(
                ("expect", position, "cycles"),
                f"`no_leaks` needs {cycles} reconnections of each client, and the timeline makes at most {count:g}",
                "more `times`, or fewer `cycles`",
            )


def _cycles_of(scenario: Scenario, entry: Entry) -> float:
    """Return how often one occurrence of an entry makes a client reconnect, at most."""
    words = entry.settings()
    if entry.toxicity == 0 or words.word in ("noop", "slow_accept", "send"):
        return 0
    if not entry.has_window:
        return 1
    if isinstance(words, (IdleTimeout, MaxLifetime)):
        return math.ceil(_window_s(scenario, entry) / max(words.limit_s(), ATTEMPT_S)) + 1
    once = words.refuses or words.swallows or words.silences() or words.word in ("restart", "drain")
    # while it is in force nobody connects, so that a client comes back once, after it, or kept its connection
    return 1 if once and words.word != "loss" else math.inf


def warn_of_herd_of_one(scenario: Scenario) -> Iterator[Problem]:
    """`herd` with fewer than two clients: one client is no herd."""
    for position, row in _expected(scenario, "herd"):
        found = _entry_of(scenario, row)
        named = None if found is None else found[1].clients
        count = scenario.client.count if named is None else len(set(named))
        if count < 2:
            yield Problem(
                ("expect", position),
                f"`herd` cannot be judged: {count} client comes back",
                "a `count` of at least 2 in `client`",
            )


def warn_of_no_retry_after(scenario: Scenario) -> Iterator[Problem]:
    """`handshake` with `retry_after: true` where nothing sends a Retry-After."""
    for position, row in _expected(scenario, "handshake"):
        settings = checks.Handshake.model_validate(row.parameters)
        if not settings.retry_after or scenario.server.use != "reference":
            continue
        if not any(_sends_retry_after(entry) for entry in scenario.timeline):
            yield Problem(
                ("expect", position, "retry_after"),
                "nothing in this scenario sends a Retry-After",
                "`retry_after` on a `reject_upgrade` or a `reject`",
            )


def _sends_retry_after(entry: Entry) -> bool:
    if entry.parameters.get("retry_after") is not None:
        return True
    headers = entry.parameters.get("headers") or {}
    return any(str(name).lower() == "retry-after" for name in headers)


def warn_of_no_cost(scenario: Scenario) -> Iterator[Problem]:
    """`cost` where no peer has a heartbeat: nothing costs anything."""
    beats = (scenario.client.heartbeat, scenario.server.heartbeat)
    ours = scenario.client.use == "reference" and scenario.server.use == "reference"
    for position, _ in _expected(scenario, "cost"):
        if ours and beats == (None, None):
            yield Problem(
                ("expect", position),
                "`cost` has nothing to judge: no peer has a heartbeat",
                "a `heartbeat` in `client` or `server`",
            )


def warn_of_no_availability(scenario: Scenario) -> Iterator[Problem]:
    """`availability` with `at_least: 0`: it cannot fail."""
    for position, row in _expected(scenario, "availability"):
        if checks.Availability.model_validate(row.parameters).at_least == 0:
            yield Problem(
                ("expect", position, "at_least"),
                "every client is connected for 0 % of the time at least: this cannot fail",
                "more than 0",
            )


def warn_of_lost_messages(scenario: Scenario) -> Iterator[Problem]:
    """`delivers` with `lost: 0` where a path loses messages that are due, and the workload sends each once."""
    deadly = [
        position
        for position, entry in enumerate(scenario.timeline)
        if entry.settings().deadly or entry.settings().lasting
    ]
    for position, row in _expected(scenario, "delivers"):
        settings = checks.Delivers.model_validate(row.parameters)
        once = [line for line in scenario.workload if _is_lost_by(scenario, line, settings.sender)]
        if settings.lost == 0 and once and deadly and _is_dense(scenario, once, deadly[0]):
            yield Problem(
                ("expect", position, "lost"),
                f"a message of the {once[0].sender} that is on its way when `{label(scenario, deadly[0])}` cuts its "
                "connection is lost: nobody sends it again",
                "`delivery: resume` in `workload`, or no `lost`",
            )


def _is_lost_by(scenario: Scenario, line: Workload, sender: str) -> bool:
    """Tell whether a line of the workload is sent by a peer that never sends a message again."""
    subject: Server | object = scenario.server if line.sender == "server" else scenario.client
    ours = getattr(subject, "use", None) == "reference"
    return ours and sender in ("both", line.sender) and line.delivery == "at_most_once"


def _is_dense(scenario: Scenario, lines: list[Workload], position: int) -> bool:
    """Tell whether messages are due while an entry keeps a path silent, so that some are surely lost."""
    entry = scenario.timeline[position]
    words, window_s = entry.settings(), _window_s(scenario, entry)
    return words.silences() and words.lasting and window_s > min(line.every_s for line in lines)


# times of the whole scenario


def warn_of_fault_before_steady(scenario: Scenario) -> Iterator[Problem]:
    """An entry before the steady state can be there: all clients open, then 1 s without a close."""
    if scenario.steady_state == "none":
        return
    soonest_s = STEADY_QUIET_S + _soonest_open_s(scenario)
    for position, entry in enumerate(scenario.timeline):
        if entry.at_s is not None and entry.at_s < soonest_s - EPSILON_S:
            yield Problem(
                ("timeline", position, "at"),
                f"`{label(scenario, position)}` begins before the steady state can be there: the run is INCONCLUSIVE",
                f"at least {show_s(math.ceil(soonest_s * 10) / 10)}, or `steady_state: none`",
            )
        elif _starts_with_clients(scenario, entry):
            yield Problem(
                ("timeline", position, "on"),
                f"`{label(scenario, position)}` begins before the steady state can be there: the run is INCONCLUSIVE",
                f"a `number` above {scenario.client.count}, or `steady_state: none`",
            )


def _starts_with_clients(scenario: Scenario, entry: Entry) -> bool:
    on = entry.on
    return (
        on is not None
        and on.event in ("attempt", "open")
        and on.number <= scenario.client.count
        and entry.then_s < STEADY_QUIET_S
    )


def _soonest_open_s(scenario: Scenario) -> float:
    """Return when the last client can be open at the soonest, by what `start_spread` and `paths` say."""
    client = scenario.client
    started_s = client.start_spread_s * (client.count - 1) / client.count
    # TCP's handshake and WebSocket's to the link, and the link's own to the server
    trips: Mapping[Leg, int] = {"client": 2, "server": 1}
    return started_s + sum(trips[leg] * _least_round_trip_s(scenario, leg) for leg in LEGS)


def _least_round_trip_s(scenario: Scenario, leg: Leg) -> float:
    paths = scenario.paths
    row = paths.leg(leg) if paths is not None else None
    return 0.0 if row is None else sum(_least_s(row.way(way).delay) for way in WAYS)


def _least_s(delay: float | Delay | None) -> float:
    if isinstance(delay, Delay):
        if delay.uniform is not None:
            return delay.uniform.low_s
        return delay.pareto.least_s if delay.pareto is not None else 0.0
    return delay or 0.0


def warn_of_settle_too_long(scenario: Scenario) -> Iterator[Problem]:
    """A `settle` that begins before the steady state can be there: `delivers` judges next to no message."""
    from_s = scenario.duration_s - scenario.settle_s
    soonest_s = STEADY_QUIET_S + _soonest_open_s(scenario)
    if any(_expected(scenario, "delivers")) and from_s < soonest_s - EPSILON_S:
        yield Problem(
            ("settle",),
            f"messages are judged that were sent before {show_s(from_s)}, `duration` less `settle`, and the steady "
            f"state can be there at {show_s(soonest_s)}",
            "a shorter `settle`, or a longer `duration`",
        )


# single entries


def warn_of_limit_never_reached(scenario: Scenario) -> Iterator[Problem]:
    """An `idle_timeout` or `max_lifetime` whose limit is not over before its window is: it touches nothing."""
    for position, entry in enumerate(scenario.timeline):
        words = entry.settings()
        if not isinstance(words, (IdleTimeout, MaxLifetime)) or entry.allow_unfelt:
            continue
        end_s = _end_s(scenario, entry)
        if words.limit_s() >= end_s:
            yield Problem(
                ("timeline", position, "after"),
                f"no connection is as old as {show_s(words.limit_s())} when this `{entry.word}` ends at "
                f"{show_s(end_s)}",
                f"an `after` below {show_s(end_s)}, or a longer window",
            )


def warn_of_nobody_touched(scenario: Scenario) -> Iterator[Problem]:
    """An entry with `toxicity: 0`, or an empty window: it touches nothing."""
    for position, entry in enumerate(scenario.timeline):
        if entry.allow_unfelt:
            continue
        if entry.toxicity == 0:
            yield Problem(
                ("timeline", position, "toxicity"),
                f"`toxicity: 0` selects no connection: `{label(scenario, position)}` touches nothing",
                "more than 0, or `allow_unfelt: true`",
            )
        if entry.for_s == 0:
            yield Problem(
                ("timeline", position, "for"),
                f"the window of `{label(scenario, position)}` is empty",
                "more than 0s",
            )


def warn_of_client_that_comes_back(scenario: Scenario) -> Iterator[Problem]:
    """`never_reconnects` after a `close` with a code on which the reference client's policy reconnects."""
    client = scenario.client
    if client.use != "reference":
        return
    policy = Policy.parse(client.policy)
    for position, row in _expected(scenario, "never_reconnects"):
        found = _entry_of(scenario, row)
        if found is None or (found[1].kind, found[1].word, found[1].by) != (
            "action",
            "close",
            "server",
        ):
            continue
        code = int(found[1].parameters.get("code", 1000))
        reaction = policy.on_close(code)
        if reaction.value != "never":
            yield Problem(
                ("expect", position, "after"),
                f"a client with the policy `{policy.name}` comes back after {code}: its reaction is "
                f"`{reaction.value}`",
                "a final code such as 4000, or another `policy`",
            )


WARNINGS: tuple[Warn, ...] = (
    warn_of_fault_before_steady,
    warn_of_limit_never_reached,
    warn_of_nobody_touched,
    warn_of_settle_too_long,
    warn_of_absence_too_short,
    warn_of_client_that_comes_back,
    warn_of_detection_too_tight,
    warn_of_window_too_short,
    warn_of_reconnection_too_tight,
    warn_of_too_few_delays,
    warn_of_too_few_cycles,
    warn_of_lost_messages,
    warn_of_herd_of_one,
    warn_of_no_retry_after,
    warn_of_no_cost,
    warn_of_no_availability,
)


def find_warnings(scenario: Scenario) -> list[Problem]:
    """Return what cannot work in a scenario, which must be valid."""
    return [problem for rule in WARNINGS for problem in rule(scenario)]
