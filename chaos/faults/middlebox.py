"""The machine of middleboxes: load balancers, proxies and NATs that end a flow by a clock of their own.

The state of a middlebox belongs to a connection, not to a direction: the machines of both streams share one `Flow`.
"""

from __future__ import annotations

from chaos.faults.machine import Flow, Machine, Place
from chaos.faults.units import Cut, Data, Unit
from chaos.vocabulary.faults import IdleTimeout, MaxLifetime
from chaos.vocabulary.presets import CutAction
from chaos.wire.frames import DATA_OPCODES


class MiddleboxMachine(Machine, does=[IdleTimeout, MaxLifetime]):
    """One direction through a middlebox.

    The first of a connection's two machines keeps the clock. Once the flow is forgotten, either of them swallows what
    comes, and answers it with an RST if the middlebox does that.
    """

    def __init__(self, settings: IdleTimeout | MaxLifetime, place: Place) -> None:
        super().__init__(settings, place)
        flows, lifetime = place.flows, isinstance(settings, MaxLifetime)
        self._limit_s = settings.limit_s()
        self._action: CutAction = settings.cut()
        self._counts = settings.counts if isinstance(settings, IdleTimeout) else None
        self._keeps_clock = place.key not in flows.by_key
        began = Flow(active_s=flows.opened_s if lifetime else place.now_s)
        self._flow = flows.by_key.setdefault(place.key, began)
        self._cutter = place.cutter

    @property
    def sticky(self) -> bool:  # type: ignore[override]
        """Whether the machine stays when its entry ends: a flow that is forgotten stays so."""
        return self._flow.forgotten

    def feed(self, now: float, unit: Unit) -> list[Unit]:
        if self._flow.forgotten:
            self.felt = self.felt or "swallowed what came after the flow was forgotten"
            return [Cut(rst=True, whom="source")] if self._action == "drop_then_rst" else []
        if isinstance(unit, Data) and self._is_activity(unit.payload):
            self._flow.active_s = now
        return [unit]

    def _is_activity(self, payload: bytes) -> bool:
        if self._counts is None:
            return False
        if self._counts == "bytes":
            return True
        spans = self._cutter.feed(payload)
        if self._counts == "frames":
            return any(span.opcode is not None and span.ends for span in spans)
        return any(span.opcode in DATA_OPCODES and span.ends for span in spans)

    def wake_at(self) -> float | None:
        if not self._keeps_clock or self._flow.forgotten:
            return None
        return self._flow.active_s + self._limit_s

    def wake(self, now: float) -> list[Unit]:
        self._flow.forgotten = True
        self.felt = self.felt or f"ended the flow after {self._limit_s:g} s"
        if self._action in ("fin", "rst"):
            return [Cut(rst=self._action == "rst")]
        return []
