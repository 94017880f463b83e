"""Schedules as a Hypothesis strategy, built so that its own shrinking goes towards what people want to read.

Fewer entries, the weaker kind, the weaker parameters, earlier, shorter. The only file that imports Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from chaos.explore.kinds import Kind
from chaos.explore.schedules import TICK_S, Ground, Schedule, admitted, make_entry
from chaos.scenario.model import Entry

ENTRIES_MAX = 5
# A hunt ends by time, never by this.
EXAMPLES_MAX = 10_000_000


def schedules(ground: Ground) -> st.SearchStrategy[Schedule]:
    """Return schedules for a scenario, the simplest first."""
    rows = st.lists(entries(ground), max_size=ENTRIES_MAX).map(admitted)
    # three in four go without a last word: after it nothing more is seen of the client
    finals = ground.finals()
    last: st.SearchStrategy[Entry | None] = st.none()
    if finals:
        last = st.sampled_from([None] * (3 * len(finals)) + list(finals))
    return st.builds(lambda rows, last: Schedule(entries=rows, final=last), rows, last)


@st.composite
def entries(draw: st.DrawFn, ground: Ground) -> Entry:
    """Draw one entry."""
    kinds = ground.kinds()
    kind: Kind = draw(st.sampled_from([kind for kind in kinds for _ in range(kind.weight)]))
    parameters = draw(st.sampled_from(ground.strengths(kind)))
    stream = draw(st.sampled_from(kind.streams))
    at_s = ground.start_s + TICK_S * draw(st.integers(0, int(ground.span_s / TICK_S)))
    times = {"at_s": at_s}
    if not kind.instant:
        times["for_s"] = TICK_S * draw(st.integers(1, int(ground.window_s / TICK_S)))
    return make_entry(kind.kind, kind.word, parameters, stream=stream, by=kind.by, **times)


def search(ground: Ground, fails: Callable[[Schedule], bool], seed: int) -> Schedule | None:
    """Return the smallest schedule for which `fails` is true that Hypothesis finds, or None.

    What `fails` raises comes out of here if it is no `Exception`: that is how a hunt ends when its time is over.
    """
    options = settings(
        max_examples=EXAMPLES_MAX,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        # iterating leaves the deprecated ones out
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    try:
        return find(schedules(ground), fails, settings=options, random=Random(seed))
    except NoSuchExample:
        return None
