"""SIGTERM in the process that computes: it asks for a drain during a message, and ends it between two.

billiard's own handler ends the process at any moment. A handler that is installed only for a message
comes after the message was accepted, and a drain in between would lose it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


class ChildStop:
    """What SIGTERM does in this process now."""

    def __init__(self) -> None:
        self._is_busy = False
        self._is_asked = False
        self._drain: Callable[[], object] | None = None
        self._end: Handler = lambda signum, frame: None

    def install(self) -> None:
        """Take SIGTERM, and keep the earlier handler for the time between two messages."""
        earlier = signal.signal(signal.SIGTERM, self._received)
        if callable(earlier):
            self._end = earlier

    def receiving(self, receive: Callable[[], Any]) -> Callable[[], Any]:
        """The same call, noting that the process is busy from the message it returned to the next call."""

        def receive_noting() -> Any:
            self._is_busy = False
            message = receive()
            self._is_busy = message is not None
            return message

        return receive_noting

    def drains_by(self, drain: Callable[[], object]) -> None:
        """What asks for a drain; called at once if SIGTERM came before there was something to ask."""
        self._drain = drain
        if self._is_asked:
            drain()

    def _received(self, signum: int, frame: FrameType | None) -> None:
        if not self._is_busy:
            self._end(signum, frame)
            return
        self._is_asked = True
        if self._drain is not None:
            self._drain()


CHILD_STOP = ChildStop()
"""The one of this process: its pool marks messages, and its app says what drains."""
