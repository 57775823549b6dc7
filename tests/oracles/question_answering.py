"""Expected answers of question answering, from the last pipeline that transformers has for it.

It runs in an environment of its own, since that version is not among the pinned packages:

    python3.11 -m venv /tmp/oracle && /tmp/oracle/bin/pip install torch==2.13.0 transformers==4.57.6
    python -m tests.oracles.seeded_models /tmp/models
    /tmp/oracle/bin/python tests/oracles/question_answering.py /tmp/models \
        tests/unit/tasks/items/question_answering_4_57.json

The file holds questions, contexts and cases; each case's `expected` is written anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def answers(folder: Path, rows: list[list[str]], options: dict[str, Any]) -> list[Any]:
    """What the pipeline says of each row: a list of answers, or the class of what it raised."""
    from transformers import (
        AutoModelForQuestionAnswering,
        PreTrainedTokenizerFast,
        QuestionAnsweringPipeline,
    )

    pipeline = QuestionAnsweringPipeline(
        model=AutoModelForQuestionAnswering.from_pretrained(folder),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder),
    )
    found: list[Any] = []
    for question, context in rows:
        try:
            row = pipeline(question=question, context=context, **options)
        except BaseException as error:  # Rust panics are no Exception
            found.append(type(error).__name__)
            continue
        found.append([row] if isinstance(row, dict) else row)
    return found


def main(models: str, file: str) -> None:
    path = Path(file)
    data = json.loads(path.read_text(encoding="utf-8"))
    questions, contexts = (
        [it["text"] * it["times"] for it in data[name]] for name in ("questions", "contexts")
    )
    rows = [[question, context] for question in questions for context in contexts]
    for case in data["cases"]:
        case["expected"] = answers(Path(models) / case["family"], rows, case["options"])
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
