"""A fleet that gets signals while it handles one."""

from __future__ import annotations

import threading
from typing import Any

from workers.fleet.supervisor import Supervisor


def test_a_stop_waits_for_no_lock_that_the_interrupted_thread_holds() -> None:
    fleet = Supervisor([], {}, 1.0, queue="default")
    event: Any = fleet.stopping

    def two_signals() -> None:
        fleet.stop()
        fleet.stop()

    with event._cond:  # as where a signal interrupts `wait` or another `stop`
        asked = threading.Thread(target=two_signals, daemon=True)
        asked.start()
        asked.join(20)
        assert not asked.is_alive()
    assert fleet.stopping.wait(20)
