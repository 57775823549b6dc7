"""Files of strangers: `python -m benchmarks.foreign_files FOLDER` scores every one with the fake task.

For each file under the folder that is Parquet or JSON Lines (parquet-testing, generated cases, a
download of public data) the first text column is scored, all other columns are copied, and the
output is verified against the file, value by value. What is refused must be refused in words, with
an exit code. Prints a line for each file that did not come through, and figures at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from headrace.formats.base import Request
from headrace.formats.opener import scan_file
from headrace.settings import load_settings
from headrace.storage.open import open_store
from producers.planning.columns import ROW_NUMBER, is_text
from producers.planning.discovery import Found, discover
from producers.planning.passed_over import PassedOver
from producers.verification.verify import verify
from schemas.errors import HeadraceError
from schemas.records.part_schema import RESERVED
from tests.unit.small_job import NOW_S, fake_settings, finish, score, submit

OURS = RESERVED | {ROW_NUMBER, "length", "digest"}
"""Names that a copied column may not have."""


@dataclass(slots=True)
class Figures:
    """What became of the files."""

    files: Counter[str] = field(default_factory=Counter)
    """`verified`, `no text column`, `refused: CLASS`, `WRONG`, `CRASHED`."""
    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Error rows by class."""

    def lines(self) -> Iterator[str]:
        yield f"{sum(self.files.values()):,} files"
        for what, count in self.files.most_common():
            yield f"  {count:6,}  {what}"
        yield f"{self.rows:,} rows verified"
        for kind, count in self.errors.most_common():
            yield f"  {count:6,}  error rows: {kind}"


def run_file(found: Found, scratch: Path, figures: Figures) -> str:
    """One file as a job; what became of it."""
    scan = scan_file(found.store, found.info, Request(found.uri, ())).scan
    texts = [f.name for f in scan.schema if is_text(f.type)]
    if not texts:
        return "no text column"
    names = Counter(f.name.casefold() for f in scan.schema)
    others = [
        f.name
        for f in scan.schema
        if f.name != texts[0] and f.name.casefold() not in OURS
        and names[f.name.casefold()] == 1 and "," not in f.name and f.name.strip()
    ]  # fmt: skip
    store, job = submit(
        [found.uri], scratch, text_column=texts[0], columns=",".join(others), chunk_rows=5_000
    )
    score(store, job)
    finish(store, job)
    result = verify(store, fake_settings(), now_s=NOW_S)
    if result.verdict != "verified":
        return f"WRONG: {result.problems[0].message}"
    figures.rows += result.rows
    figures.errors += result.errors_by_type
    return "verified"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("folder", type=Path)
    folder = arguments.parse_args().folder
    figures = Figures()
    passed = PassedOver()
    open_here = partial(open_store, settings=load_settings())
    for found in discover([str(folder)], open_here, passed=passed):
        with tempfile.TemporaryDirectory(prefix="headrace-foreign-") as scratch:
            try:
                what = run_file(found, Path(scratch) / "out", figures)
            except HeadraceError as error:
                what = f"refused: {type(error).__name__}"
                print(f"{found.info.name}: {what}: {str(error)[:160]}")
            except Exception as error:
                what = f"CRASHED: {type(error).__name__}"
                print(f"{found.info.name}: {what}: {str(error)[:160]}")
        if what.startswith("WRONG"):
            print(f"{found.info.name}: {what}")
        figures.files[what.split(":")[0] if what.startswith("WRONG") else what] += 1
    print("\n".join([*figures.lines(), *passed.warnings()]))
    return 1 if any(w.startswith(("WRONG", "CRASHED")) for w in figures.files) else 0


if __name__ == "__main__":
    sys.exit(main())
