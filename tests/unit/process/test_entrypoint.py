"""A command line ends in order: on Ctrl-C while it loads, without a reader, and on any error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.process.printable import printable
from schemas.errors import ExitCode

ROOT = Path(__file__).parent.parent.parent.parent


def python(code: str, *words: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,  # type: ignore[call-overload]
    )  # fmt: skip


def test_ctrl_c_while_the_command_loads_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "loading.py").write_text(
        "print('loading', flush=True)\nimport signal\nsignal.pause()"
    )
    code = "from headrace.process.entrypoint import run_command_line as r; r('loading')"
    process = python(code, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (ExitCode.INTERRUPTED, "", "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_goes_on_when_nothing_reads_it(stream: str, tmp_path: Path) -> None:
    code = f"""
import sys
from headrace.process.entrypoint import run_cli
def app():
    print("first", file=sys.{stream}, flush=True)
    for _ in range(20_000):
        print("a line that fills the pipe", file=sys.{stream})
    open(sys.argv[1], "w").write("done")
run_cli(app)
"""
    with python(code, str(tmp_path / "end")) as process:
        read = process.stdout if stream == "stdout" else process.stderr
        assert read is not None
        assert read.readline() == "first\n"
        read.close()
        assert process.wait(timeout=60) == 0
    assert (tmp_path / "end").read_text() == "done"


@pytest.mark.parametrize(
    ("raised", "error", "exit_code"),
    [
        ("ConfigError('no \\x1b[31m broker')", "config_error", ExitCode.CONFIG),
        ("ValueError('a fault of ours')", "value_error", ExitCode.UNEXPECTED),
        ("SystemExit(2)", "usage_error", ExitCode.USAGE),
    ],
)
def test_with_json_an_error_is_one_object_too(raised: str, error: str, exit_code: int) -> None:
    code = f"""
from headrace.process.entrypoint import run_cli
from schemas.errors import ConfigError
def app(): raise {raised}
run_cli(app)
"""
    process = python(code, "--json")
    out, err = process.communicate(timeout=30)
    assert process.returncode == exit_code
    found = json.loads(out)
    assert (found["error"], found["exit_code"]) == (error, exit_code)
    assert "\x1b[31m broker" not in err
    assert python(code).communicate(timeout=30)[0] == "", "without --json it has nothing"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("over\rwritten", "over\\x0dwritten"),
        ("\x9b31m", "\\x9b31m"),
        ("evil\u202etxt", "evil\\u202etxt"),
        ("file\udc80", "file\\udc80"),
        ("Ünï\ttab [bold] 日本", "Ünï\ttab [bold] 日本"),
        ("NEG\nfinished job 1\u2028x\x85y", "NEG\\nfinished job 1\\u2028x\\x85y"),
    ],
)
def test_text_from_elsewhere_moves_no_cursor(text: str, shown: str) -> None:
    assert printable(text) == shown
