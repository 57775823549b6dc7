"""The console script `headrace`. It imports next to nothing: Ctrl-C works while the rest loads."""

from __future__ import annotations

from headrace.process.entrypoint import run_command_line


def main() -> None:
    """Run `headrace`."""
    run_command_line("producers.cli")
