"""What a run may depend on beside its seed: where its objects lie in memory, and how texts are hashed.

A set has its elements in the order of their hashes, and an object without a hash of its own has one of its address.
The allocator of a process gives addresses in nearly the same order each time, so that two processes often agree by
chance. Here it is made to give them in any order (`run_shuffled`), and the cause of a difference is found by changing
one thing at a time (`find_cause`).
"""

from __future__ import annotations

import ctypes
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

from chaos.running.job import Job
from chaos.running.parent import Parent
from chaos.running.pool.worker import Worker, WorkerLost, launch
from chaos.running.process import run_seeds
from chaos.running.result import Row

Cause = Literal["addresses", "hashes", "chance", "unknown"]
CAUSES: dict[Cause, str] = {
    "addresses": "the order of a set of objects, or of something else that goes by addresses: with its objects "
    "elsewhere in memory the run is another one; expected a dict or a list, or objects with a __hash__ of their own",
    "hashes": "the order of a set of texts: with another PYTHONHASHSEED the run is another one; expected it sorted",
    "chance": "something that no seed decides (os.urandom, secrets, uuid4): two processes that are alike differ too",
    "unknown": "not found: runs with one thing changed at a time agree",
}
HASH_SEEDS = ("1", "4242")
# Of two objects a set has either order in a half of all layouts: in so many both come up.
LAYOUTS = 8
ALIKE = 6  # processes with nothing changed
_ADDR_NO_RANDOMIZE = 0x0040000  # personality(2)
_BLOCKS = 1_000  # of each size
_SIZES = range(48, 513, 16)  # what Python's own allocator gives, but for the smallest
_EMPTY_BYTES = sys.getsizeof(b"")


def shuffle_addresses(rng: random.Random) -> list[bytes]:
    """Have the allocator give its next blocks in another order, for as long as what is returned is kept."""
    blocks = [bytes(size - _EMPTY_BYTES) for size in _SIZES for _ in range(_BLOCKS)]
    rng.shuffle(blocks)
    kept = blocks[::2]
    for place in range(1, len(blocks), 2):
        blocks[place] = b""  # freed one by one, in the order of the shuffle
    return kept


def run_shuffled(job: Job, parent: Parent | None = None, *, layouts: int = LAYOUTS) -> list[Row]:
    """Run each seed of a job as it comes and under so many layouts of memory.

    Of each seed the first run is returned, and the first that differs from it if one does.
    """
    rows: list[Row] = []
    for seed in job.seeds:
        first = run_seeds(job.alone(seed), parent)
        rows += first
        for layout in range(layouts):
            kept = shuffle_addresses(random.Random(layout))
            found = run_seeds(job.alone(seed), parent)
            del kept
            if [row.digest for row in found] != [row.digest for row in first]:
                rows += found
                break
    return rows


def layouts_for(job: Job) -> int:
    """Return how many layouts each seed of a job is run under: many seeds are many chances by themselves."""
    return max(1, LAYOUTS // len(job.seeds))


def find_cause(job: Job) -> Cause:
    """Run a job of one seed a few times more, with one thing changed at a time, and return what makes it differ.

    Processes that are alike have nearly the same layout of memory: what goes by addresses has a few variants, which
    come again soon. What no seed decides hardly ever comes twice.
    """
    seen: set[str] = set()
    for _ in range(ALIKE):
        [digest] = _digests(job, run_seeds, HASH_SEEDS[0])
        if digest in seen:
            break
        seen.add(digest)
    else:
        return "chance"
    if len(seen) > 1 or _digests(job, run_shuffled, HASH_SEEDS[0]) - seen:
        return "addresses"
    return "hashes" if _digests(job, run_seeds, HASH_SEEDS[1]) - seen else "unknown"


def _digests(job: Job, work: Callable[[Job, Parent], list[Row]], hash_seed: str) -> set[str]:
    worker = Worker(partial(launch, PYTHONHASHSEED=hash_seed))
    try:
        with _fixed_addresses():
            return {row.digest for row in worker.run(work, job)}
    except WorkerLost as lost:
        return {str(lost)}
    finally:
        worker.end()


@contextmanager
def _fixed_addresses() -> Iterator[None]:
    """Start the programs of this thread without random addresses, where the system allows that (Linux)."""
    personality = getattr(ctypes.CDLL(None), "personality", lambda _: -1)
    before = personality(0xFFFFFFFF)  # asks, and changes nothing
    if before >= 0:
        personality(before | _ADDR_NO_RANDOMIZE)
    try:
        yield
    finally:
        if before >= 0:
            personality(before)
