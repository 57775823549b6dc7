"""podman or docker, as a person has it: what the tests of the images ask of one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

BUILD_S = 1_800  # of one image, with its packages to download
ANSWER_S = 120


@dataclass(frozen=True)
class Engine:
    """The command of a container engine, of its compose, and more options for its builds."""

    command: str
    compose: tuple[str, ...]
    build_options: tuple[str, ...]

    def call(self, *words: str, limit_s: float = ANSWER_S) -> str:
        """What it prints, both streams. Raises AssertionError where it fails."""
        return said((self.command, *words), limit_s)

    def build(self, tag: str, dockerfile: Path, context: Path) -> None:
        # podman's own format has no health checks
        form = ("--format", "docker") if self.command.endswith("podman") else ()
        self.call(
            "build", *form, *self.build_options, "-t", tag, "-f", str(dockerfile), str(context),
            limit_s=BUILD_S,
        )  # fmt: skip

    def size_mb(self, tag: str) -> int:
        return int(self.call("image", "inspect", "--format", "{{.Size}}", tag)) // 1_000_000


def said(words: tuple[str, ...], limit_s: float, folder: Path | None = None) -> str:
    """What a command prints, both streams. Raises AssertionError where it fails."""
    done = subprocess.run(
        words, cwd=folder, text=True, timeout=limit_s, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}: {done.returncode}\n{done.stdout[-4_000:]}"
    return done.stdout


def from_environment() -> Engine:
    """The engine that make names (ENGINE, COMPOSE, BUILD_OPTIONS), else docker, else podman."""
    found = os.environ.get("HEADRACE_TEST_ENGINE") or next(
        (name for name in ("docker", "podman") if shutil.which(name)), ""
    )
    assert found, "there is neither docker nor podman here"
    own = "docker compose" if found.endswith("docker") else "podman-compose"
    return Engine(
        found,
        tuple(shlex.split(os.environ.get("HEADRACE_TEST_COMPOSE") or own)),
        tuple(shlex.split(os.environ.get("HEADRACE_TEST_BUILD_OPTIONS", ""))),
    )
