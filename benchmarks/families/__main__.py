"""All families of the installed transformers, one line each: `make families`.

A run goes on where an earlier one was cut short: what was found stands in a file, a line each.
"""

from __future__ import annotations

import argparse
import json
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.families.compare import Outcome, as_line, compare
from benchmarks.families.page import page

LIMIT_S = 600  # chosen: four times what the slowest took, VibeVoice ASR with 152 s
TASKS = ("text-classification", "token-classification", "feature-extraction")


def main() -> None:
    args = _arguments()
    warnings.filterwarnings("ignore")
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    done = set() if args.fresh else {(o.family, o.task) for o in read(args.results)}
    args.results.parent.mkdir(parents=True, exist_ok=True)
    with args.results.open("w" if args.fresh else "a") as file:
        for task in args.task or TASKS:
            for family in args.only or families_of(task):
                if (family, task) in done:
                    continue
                outcome = _within_limit(family, task)
                file.write(json.dumps(as_line(outcome)) + "\n")
                file.flush()
                print(_as_text(outcome), flush=True)
    if args.write is not None:
        before = args.write.read_text() if args.write.is_file() else ""
        args.write.write_text(page(read(args.results), before))


def families_of(task: str) -> list[str]:
    """Model types of transformers with a head for the task, in their order."""
    from transformers.models.auto import modeling_auto as auto

    names = {
        "text-classification": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "token-classification": auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        "feature-extraction": auto.MODEL_MAPPING_NAMES,
    }
    return list(names[task])


def read(path: Path) -> list[Outcome]:
    """What stands in a file of results; nothing where there is none."""
    lines: Iterator[dict[str, Any]] = (
        map(json.loads, path.read_text().splitlines()) if path.is_file() else iter(())
    )
    return [Outcome(**line) for line in lines]


class _TooLong(BaseException):
    """Not an Exception: what catches those would call it a refusal of the family."""


def _within_limit(family: str, task: str) -> Outcome:
    def over(*_: Any) -> None:
        raise _TooLong

    signal.signal(signal.SIGALRM, over)
    signal.alarm(LIMIT_S)
    try:
        return compare(family, task)
    except _TooLong:  # no tiny model: most of its sizes have names of their own
        return Outcome(family, task, not_made=f"took over {LIMIT_S} s here", seconds=LIMIT_S)
    except Exception as error:
        return Outcome(
            family,
            task,
            way="crashed",
            difference=float("nan"),
            refused=f"{type(error).__name__}: {error}"[:300],
        )
    finally:
        signal.alarm(0)


def _as_text(o: Outcome) -> str:
    said = (o.not_made and f"no model of text: {o.not_made}") or o.refused
    state = "WRONG" if o.is_wrong else "refused" if o.refused else "-" if o.not_made else "ok"
    facts = f"{o.way:8}{o.difference:9.1e} {o.max_length:>6} {'own' if o.own_tokenizer else '':4}"
    return f"{state:8}{o.task:22}{o.family:28}{facts}{o.seconds:6} {said[:200]}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("--task", nargs="+", choices=TASKS)
    parser.add_argument("--only", nargs="+", metavar="FAMILY")
    parser.add_argument("--results", type=Path, default=Path("build/families.jsonl"))
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="the table, as a page of the docs"
    )
    parser.add_argument("--fresh", action="store_true", help="do not go on from an earlier run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
