"""Question answering, beside the last pipeline that transformers had for it (4.57.6).

That needs an environment of its own: `python -m venv peers; peers/bin/pip install
transformers==4.57.6 torch`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.search.contest import Contest, of_sizes
from benchmarks.search.models import with_head
from benchmarks.side_by_side.fan_out import loaded, scored, window_of
from workers.tasks.question_answering import QuestionAnswering

QUESTION = "what do people say about the new version?"
TOKENS = (100, 2_000)
"""Of a context, about."""
WINDOW = 384
"""Tokens of a window, as the pipeline takes them; they share 128."""
PEER = Path(__file__).with_name("answering_peer.py")


def answering(
    model: Path, texts: Sequence[str], scratch: Path, *, python: str, most: int
) -> Contest:
    """One question, at most so many contexts of 100 to 2,000 tokens, made of the texts."""
    folder = with_head(model, scratch, "QuestionAnswering", WINDOW)
    contexts = contexts_of(texts)[:most]
    ours = loaded(QuestionAnswering(), folder, limit=WINDOW)
    rows = window_of(contexts, [QUESTION] * len(contexts))
    peer = Peer(python, folder, contexts)

    def answer() -> Any:
        return scored(ours, rows)

    wanted, found = peer.answers(), answer().to_pylist()
    for mine, theirs in zip(found, wanted, strict=True):
        assert [mine[name] for name in ("answer", "start", "end")] == theirs[1:], (mine, theirs)
    apart = max(abs(mine["score"] - one[0]) for mine, one in zip(found, wanted, strict=True))
    return Contest(len(contexts), {"headrace": answer} | of_sizes("pipeline", peer.seconds), apart)


def contexts_of(texts: Sequence[str]) -> list[str]:
    """Texts joined until each context is long enough, about four letters a token."""
    draw = np.random.default_rng(7)
    found, words, wanted = [], "", 4 * draw.integers(*TOKENS)
    for text in texts:
        words += text.strip() + "\n"
        if len(words) >= wanted:
            found.append(words[:wanted])
            words, wanted = "", 4 * draw.integers(*TOKENS)
    return found


class Peer:
    """The pipeline in a process of its own, which computes when it is asked to."""

    def __init__(self, python: str, folder: Path, contexts: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [python, str(PEER), str(folder), str(WINDOW)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask({"question": QUESTION, "contexts": list(contexts)})

    def answers(self) -> list[Any]:
        """Score, answer, start and end of each context."""
        return list(self._ask({"batch": 1})["answers"])

    def seconds(self, size: int) -> float:
        """Processor time of all contexts at this batch size."""
        return float(self._ask({"batch": size})["seconds"])

    def _ask(self, asked: Any) -> Any:
        into, out = self._process.stdin, self._process.stdout
        assert isinstance(into, IO) or into is not None
        assert out is not None
        into.write(json.dumps(asked) + "\n")
        into.flush()
        line = out.readline()
        if not line:
            raise RuntimeError(f"the pipeline ended with {self._process.wait()}")
        return json.loads(line)
