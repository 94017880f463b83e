"""Changes the toxics of a server at random, and prints how long each call took: one JSON list of seconds.

    python changer.py PORT PROXIES CHANGES SECONDS

A process of its own: the times are to be the server's, and not those of a thread that waits for its interpreter.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any

KINDS: tuple[dict[str, Any], ...] = (
    {"type": "latency", "attributes": {"latency": 20, "jitter": 20}},
    {"type": "bandwidth", "attributes": {"rate": 5_000}},
    {"type": "slicer", "attributes": {"average_size": 500, "size_variation": 100}},
    {"type": "slow_close", "attributes": {"delay": 10}},
    {"type": "noop", "toxicity": 0.5},
)


@dataclass
class Changer:
    """One connection for all calls."""

    calls: http.client.HTTPConnection
    toxics: dict[str, list[str]]
    took_s: list[float] = field(default_factory=list)
    made: int = 0

    def run(self, changes: int, for_s: float) -> None:
        draw = random.Random(1)
        start = time.monotonic()
        for number in range(changes):
            self._change(draw, draw.choice(list(self.toxics)))
            due = start + (number + 1) * for_s / changes
            time.sleep(max(0.0, due - time.monotonic()))
        for proxy, names in self.toxics.items():
            for name in names:
                self._ask("DELETE", f"/proxies/{proxy}/toxics/{name}")

    def _change(self, draw: random.Random, proxy: str) -> None:
        names = self.toxics[proxy]
        what = draw.choice(["add", "add", "change", "remove"]) if names else "add"
        if what == "add" and len(names) < 4:
            self.made += 1
            names.append(f"t{self.made}")
            stream = draw.choice(["upstream", "downstream"])
            body = draw.choice(KINDS) | {"name": names[-1], "stream": stream}
            self._ask("POST", f"/proxies/{proxy}/toxics", body)
        elif what == "change":
            body = {"toxicity": draw.random(), "attributes": {"latency": draw.randrange(30)}}
            self._ask("PATCH", f"/proxies/{proxy}/toxics/{draw.choice(names)}", body)
        else:
            name = names.pop(draw.randrange(len(names)))
            self._ask("DELETE", f"/proxies/{proxy}/toxics/{name}")

    def _ask(self, method: str, path: str, body: Any = None) -> None:
        start = time.monotonic()
        self.calls.request(method, path, None if body is None else json.dumps(body))
        answer = self.calls.getresponse()
        text = answer.read()
        assert answer.status < 300, text
        self.took_s.append(time.monotonic() - start)


def main(port: int, proxies: int, changes: int, for_s: float) -> None:
    calls = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    changer = Changer(calls, {f"p{number}": [] for number in range(proxies)})
    changer.run(changes, for_s)
    calls.close()
    print(json.dumps(changer.took_s))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), for_s=float(sys.argv[4]))
