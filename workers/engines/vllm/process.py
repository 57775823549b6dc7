"""The process that runs vLLM, as a worker sees it: its start, messages and end."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from headrace.process.logs import get_logger
from headrace.settings import process_environment
from schemas.errors import ConfigError, EngineDied, ModelError
from workers.devices.device import ONEDNN_ENVIRONMENT

PROGRAM = Path(__file__).with_name("program.py")
END_S = 10.0
"""Chosen: what a process has to free its device before it is killed."""
MOST_LOG = 4_000
"""Letters of what it printed that go to the worker's log when it ends by itself."""
NOT_ITS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PROMETHEUS_MULTIPROC_DIR")
"""Variables that would give it this worker's packages, or this fleet its metrics."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a started vLLM says of itself."""

    version: str
    most_tokens: int
    """Of a prompt and its answer together."""
    most_rows: int
    """That are computed in one step."""


class VllmProcess:
    """A started process; it ends with this object, and with the worker."""

    def __init__(self, python: str, load: Mapping[str, Any], threads: int) -> None:
        """Start it, and wait until the model is loaded.

        Raises:
            ConfigError: the Python cannot be started.
            ModelError: vLLM cannot load the model, with its own words.
            EngineDied: it ended before.
        """
        heard, its_end = os.pipe()
        hears, tells = os.pipe()
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        try:
            self._process = subprocess.Popen(
                [python, str(PROGRAM), str(hears), str(its_end)],
                pass_fds=(hears, its_end),
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=self._printed,
                env=environment(python, threads),
                start_new_session=True,  # an interrupt at the terminal is the worker's to handle
            )
        except OSError as error:
            os.close(heard)
            os.close(tells)
            self._printed.close()
            raise ConfigError(f"HEADRACE_VLLM_PYTHON={python}: {error.strerror}") from error
        finally:
            os.close(hears)
            os.close(its_end)
        self._heard, self._tells = os.fdopen(heard, "rb"), os.fdopen(tells, "wb")
        self._finish = weakref.finalize(
            self, _ended, self._process, self._tells, self._heard, self._printed
        )
        self.say({"load": dict(load)})
        first = self.hear()
        if "failed" in first:
            self._log_what_it_printed()
            self.close()
            raise ModelError(
                f"vLLM cannot load {load['model']}: {first['kind']}: {first['failed']}"
            )
        self.facts = Facts(**first["ready"])

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def number(self) -> int:
        """Its process number."""
        return self._process.pid

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raises EngineDied."""
        try:
            self._tells.write(json.dumps(message).encode() + b"\n")
            self._tells.flush()
        except OSError as error:
            raise self._died() from error

    def hear(self) -> dict[str, Any]:
        """The next message; waits for it. Raises EngineDied: it ended, or says that it must."""
        line = self._heard.readline()
        message: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"died": ""}
        if "died" in message:
            raise self._died(message["died"])
        return message

    def close(self) -> None:
        """End the process, and wait for that."""
        self._finish()

    def _died(self, why: str = "") -> EngineDied:
        """Why it ended; its own words are for the worker's log, since they may hold text of a row."""
        _end(self._process, self._tells, self._heard)
        code = self._process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.error("engine.died", reason=f"{how} {why}".strip())
        self._log_what_it_printed()
        self.close()
        return EngineDied(f"vLLM's process ended with {how} (see the worker's log)")

    def _log_what_it_printed(self) -> None:
        self._printed.seek(max(0, self._printed.seek(0, os.SEEK_END) - MOST_LOG))
        for line in self._printed.read().decode(errors="replace").splitlines():
            logging.getLogger("vllm").warning(line)


def environment(python: str, threads: int) -> dict[str, str]:
    """Variables of the process: its threads, no network, and nothing that is this worker's own."""
    outer = process_environment()
    found = process_environment(
        # compilers and the like of its own environment come first
        PATH=os.pathsep.join([str(Path(python).parent), outer.get("PATH", os.defpath)]),
        OMP_NUM_THREADS=str(threads),
        VLLM_CPU_OMP_THREADS_BIND="nobind",  # several workers of a host would take the same core
        VLLM_ENABLE_V1_MULTIPROCESSING="0",  # one process, so that it ends as a whole
        VLLM_NO_USAGE_STATS="1",
        DO_NOT_TRACK="1",
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
    )
    own = {*NOT_ITS, *ONEDNN_ENVIRONMENT}
    return {k: v for k, v in found.items() if k not in own and not k.startswith("HEADRACE_")}


def _ended(
    process: subprocess.Popen[bytes], tells: BinaryIO, heard: BinaryIO, printed: BinaryIO
) -> None:
    _end(process, tells, heard)
    printed.close()


def _end(process: subprocess.Popen[bytes], *pipes: BinaryIO) -> None:
    """End the process: it leaves when its pipe is closed, and is killed if it does not."""
    for pipe in pipes:
        try:
            pipe.close()
        except OSError:  # what was not sent yet
            continue
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
