"""A TCP connection to Redis that can go dead, as when a host vanishes without closing it."""

from __future__ import annotations

import selectors
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(eq=False)
class _Pair:
    """One connection: the client's socket and ours to Redis."""

    client: socket.socket
    server: socket.socket
    dead: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Wire:
    """Passes every connection to a Redis on a Unix socket, until it is cut.

    After `cut` the connections of that moment carry nothing more in either direction and nobody
    closes them; new ones go through. The server's side stays open too: it believes in them as well.
    """

    def __init__(self, redis_socket: Path) -> None:
        self._redis_socket = redis_socket
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Let every connection of this moment go dead; returns how many there were."""
        with self._lock:
            living = [p for p in self._pairs if not p.dead.is_set()]
            for pair in living:
                pair.dead.set()
        return len(living)

    def close(self) -> None:
        self._listener.close()
        with self._lock:
            for pair in self._pairs:
                pair.dead.set()
                pair.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._redis_socket))
            except OSError:  # Redis is down: so is the other end of the wire
                client.close()
                server.close()
                continue
            pair = _Pair(client, server)
            with self._lock:
                self._pairs.append(pair)
            threading.Thread(target=self._carry, args=(pair,), daemon=True).start()

    def _carry(self, pair: _Pair) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(pair.client, selectors.EVENT_READ, pair.server)
            ready.register(pair.server, selectors.EVENT_READ, pair.client)
            while not pair.dead.is_set():
                for key, _ in ready.select(0.05):
                    if pair.dead.is_set():
                        return  # what came meanwhile is lost as well; nothing is closed
                    assert isinstance(key.fileobj, socket.socket)
                    try:
                        data = key.fileobj.recv(1 << 16)
                        key.data.sendall(data)
                    except OSError:
                        data = b""
                    if not data:
                        self._forget(pair)
                        return

    def _forget(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.remove(pair)
        pair.close()
