"""Measures every case of the TCP contract on the three arms; as a program, prints the table of agreement.

    python tests/networks/simulated/agreement.py [--write]

`--write` puts it into docs/explanation/simulation.md. The namespaces need root and Linux. Where real time passes, all
cases run side by side.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import trio
import trio.testing
from tcp_arms import (
    NamespaceNet,
    Net,
    RealNet,
    SimulatedNet,
    closing,
    failed,
    namespaces,
)
from tcp_cases import BOOK, Case, Seen

from chaos.networks.simulated.clock import VirtualClock, seed_scheduler
from chaos.networks.simulated.inside import inside
from chaos.networks.simulated.world import World
from chaos.subjects.probes import recording

Measured = dict[str, Seen]
ARMS = ("simulated", "loopback", "namespaces")
LIMIT_S = 60
PAGE = Path(__file__).parents[3] / "docs/explanation/simulation.md"
BEGIN, END = "<!-- agreement: begin -->", "<!-- agreement: end -->"


def simulate(case: Case) -> Seen:
    """Run a case on virtual time."""
    world = World()

    async def main() -> Seen:
        with recording(world), inside(world):
            async with trio.open_nursery() as nursery:
                async with closing(SimulatedNet(world, nursery)) as net:
                    seen = await case.body(net)
                nursery.cancel_scope.cancel()
        return seen

    seed_scheduler(1)
    return trio.run(main, clock=VirtualClock(world.fabric))


def side_by_side(make: Callable[[int], Net]) -> Measured:
    """Run every case in real time, all of them at once; what a case raised is kept in its place."""
    measured: Measured = {}

    async def one(number: int, case: Case) -> None:
        try:
            with trio.fail_after(LIMIT_S):
                async with closing(make(number)) as net:
                    measured[case.name] = await case.body(net)
        except Exception as error:
            measured[case.name] = failed(error)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number, case in enumerate(BOOK.rows.values()):
                nursery.start_soon(one, number, case)

    trio.run(main)
    return measured


def measure(arm: str) -> Measured:
    """Run every case on an arm.

    Raises:
        UnavailableError: this machine does not have the arm.
    """
    if arm == "simulated":
        return {case.name: simulate(case) for case in BOOK.rows.values()}
    if arm == "loopback":
        return side_by_side(RealNet)
    with namespaces(len(BOOK.rows)) as row:
        return side_by_side(lambda number: NamespaceNet(row, number))


def told(seen: Seen) -> str:
    """Return what a case saw as the text of a cell."""
    if "unavailable" in seen:
        return "—"
    words = []
    for key, value in seen.items():
        if key.endswith("_s"):
            words.append("at once" if value < 0.2 else f"{value:.2f} s")
        elif key.endswith("_bytes"):
            words.append(f"{value:,} bytes")
        elif isinstance(value, list):
            words.append(", ".join(repr(item) if item == "" else str(item) for item in value))
        else:
            words.append(
                f"{key}: {'yes' if value else 'no'}"
                if isinstance(value, bool)
                else str(value or "''")
            )
    return ", ".join(words)


def table(measured: dict[str, Measured]) -> str:
    """Return the table of agreement."""
    lines = [f"| case | {' | '.join(ARMS)} |", "|---|---|---|---|"]
    for name in BOOK.rows:
        cells = [told(measured[arm][name]) for arm in ARMS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(text: str) -> None:
    """Put a table into the page, between its marks."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n\n" + text + "\n\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    made = table({arm: measure(arm) for arm in ARMS})
    if "--write" in sys.argv:
        write(made)
    else:
        print(made)
