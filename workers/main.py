"""The console script `headrace-worker`. It imports next to nothing: Ctrl-C works while the rest loads."""

from __future__ import annotations

from headrace.process.entrypoint import run_command_line


def main() -> None:
    """Run `headrace-worker`."""
    run_command_line("workers.cli")
