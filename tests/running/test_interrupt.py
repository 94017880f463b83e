"""SIGINT, SIGTERM and SIGHUP mean the same; the first is noted, the second ends at once."""

from __future__ import annotations

import os
import signal

import pytest

from chaos.running import interrupt
from chaos.running.interrupt import exit_code, signals, signals_noted, signals_raise

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", ALL)
def test_the_first_is_noted_and_the_second_raises(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "_last", signal.SIGINT)
    with signals_noted() as interruption:
        interruption.check()
        os.kill(os.getpid(), number)
        assert interruption.has_come
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
        interruption.check()  # told once
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert exit_code() == 128 + number


@pytest.mark.parametrize("number", ALL)
def test_elsewhere_each_raises(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), signals_raise():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_command_under_nohup_goes_on_when_its_terminal_is_closed() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in signals()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in signals()
