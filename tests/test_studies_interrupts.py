"""Ctrl-C and SIGTERM interrupt a study, but no write."""

from __future__ import annotations

import os
import signal
import time

import pytest

from studies.storage.interrupts import interrupt_if_wanted, interruptible, uninterrupted


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def number(request: pytest.FixtureRequest) -> signal.Signals:
    if signal.getsignal(request.param) is signal.SIG_IGN:
        pytest.skip("it is ignored here, as by what a shell starts with &")
    return signal.Signals(request.param)


def test_interrupt_of_a_write_comes_at_its_end(number: signal.Signals) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), number)
                time.sleep(0.1)
                done.append("inner")
            done.append("outer")
        done.append("after")
    assert done == ["inner", "outer"]


def test_write_that_waits_may_be_given_up(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible(), uninterrupted():
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        interrupt_if_wanted()
        raise AssertionError("the write went on")


def test_handlers_are_given_back_and_an_interrupt_is_not_kept_for_later(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(ZeroDivisionError), interruptible(), uninterrupted():
        os.kill(os.getpid(), number)
        time.sleep(0.1)
        raise ZeroDivisionError
    assert signal.getsignal(number) is before
    with interruptible(), uninterrupted():
        pass
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert signal.getsignal(number) is before
