"""The table of families, as a page of the docs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from benchmarks.families.compare import TOLERANCE, Outcome

INTRODUCTION = """# Model families

Each line is a family of transformers {version}: a tiny model with random weights, made from \
the family's own configuration, with the family's own tokenizer class or a stand-in. 49 \
texts, from an empty one to 3,000 words, are scored in batches of several sizes and in \
several orders. Each row is compared with the model itself, which is given that row alone \
and has seen no other.

- **way**: `packed` without padding, `padded`, `equal` (only rows of one length together) or \
`alone` (one row at a time).
- **difference**: the largest between headrace's numbers and the model's own, relative to \
their size. Above {tolerance:g} a line counts as wrong.
- A family that is refused says why, in the words of the error.

`make families` runs all families and writes this page. It continues where an earlier run \
stopped. Run it every night or before an upgrade of transformers. The test suite holds \
twenty of the families with each change.
"""


def page(outcomes: Iterable[Outcome], before: str = "") -> str:
    """The page, with one table for each task; `before` has those of tasks that were not run now."""
    import transformers

    found = list(outcomes)
    tables = _tables_in(before)
    for task in dict.fromkeys(o.task for o in found):
        tables[task] = "\n".join(_table(task, [o for o in found if o.task == task]))
    introduction = INTRODUCTION.format(version=transformers.__version__, tolerance=TOLERANCE)
    return "\n".join([introduction, *tables.values()]) + "\n"


def _tables_in(text: str) -> dict[str, str]:
    """The table of each task on a page, with its heading."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.split("\n", 1)[0].removeprefix("## "): part.removesuffix("\n") for part in parts}


def _table(task: str, outcomes: list[Outcome]) -> Iterator[str]:
    ran = [o for o in outcomes if o.way]
    wrong = [o for o in ran if o.is_wrong]
    refused = [o for o in outcomes if o.refused and not o.way]
    yield f"## {task}\n"
    yield (
        f"{len(outcomes)} families tried: {len(ran) - len(wrong)} right, {len(wrong)} wrong, "
        f"{len(refused)} refused, {len(outcomes) - len(ran) - len(refused)} with no tiny model of "
        "text alone.\n"
    )
    yield "| family | tokenizer | way | largest difference | refused, or not tried, because |"
    yield "| --- | --- | --- | --- | --- |"
    for o in outcomes:
        tokenizer = "own" if o.own_tokenizer else "stand-in"
        apart = f"{o.difference:.1e}" if o.way else ""
        words = " ".join((o.refused or o.not_made).split())[:160].replace("|", "/")
        yield f"| {o.family} | {tokenizer} | {o.way} | {apart} | {words} |"
    yield ""
