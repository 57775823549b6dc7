"""The built wheel, installed without the sources, where the user's own modules have our names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parent.parent.parent
OURS_AND_PYTHONS = ("schemas", "headrace", "workers", "producers", "queue", "json", "typing")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder of the commands in a virtual environment that has the wheel and our dependencies."""
    build = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(tmp_path / "dist"),
    ]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    site = Path(
        subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()
    )  # fmt: skip
    ours = {Path(sysconfig.get_path("purelib")), Path(pa.__file__).parent.parent}
    (site / "dependencies.pth").write_text("\n".join(map(str, ours)))
    return home / "bin"


def test_an_installed_wheel_runs_where_the_users_modules_have_our_names(
    installed: Path, tmp_path: Path
) -> None:
    here = tmp_path / "project"
    here.mkdir()
    for name in OURS_AND_PYTHONS:
        (here / f"{name}.py").write_text("raise SystemExit('the wrong module was imported')\n")
    for name in OURS_AND_PYTHONS[:4]:
        (here / name).mkdir()
        (here / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    pq.write_table(pa.table({"text": ["a", "b", None]}), here / "in.parquet")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "PYTHON"))}
    environment |= {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("STATE", "CACHE")}

    def headrace(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [str(installed / "headrace"), *words], cwd=here, env=environment,
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    code, out, err = headrace(
        "run", "in.parquet", "-o", "out", "--task", "fake", "--workers", "1", "--json"
    )
    assert (code, json.loads(out)["ok"]) == (0, 2), err
    code, _, err = headrace("verify", "out")
    assert code == 0, err
