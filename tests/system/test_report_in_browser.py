"""The report in a real browser: nothing refused, plots drawn, in light, in dark and on a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from producers.report import build_report
from schemas.settings import Settings
from tests.unit.fake_output import write_fake_output

LIGHT_ONE, DARK_ONE = (0x16, 0x68, 0xA8), (0x63, 0xB3, 0xED)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    store = write_fake_output(folder / "out", chunks=12, rows=100, error_share=0.05)
    path.write_text(build_report(store, Settings()))
    return path


def browse(page: Path, profile: Path, *flags: str) -> tuple[str, str]:
    """Standard output and standard error of a browser that opened the page and closed again."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    assert browser, "no chromium: apt-get install chromium, or make system-packages"
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={profile}", "--enable-logging=stderr", *flags, page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return done.stdout, done.stderr


def pixels_of(picture: Path, colour: tuple[int, int, int]) -> int:
    """Pixels of the picture that are about of the colour."""
    from matplotlib.image import imread

    image = (imread(picture)[:, :, :3] * 255).astype(int)
    return int((np.abs(image - colour).max(axis=2) < 12).sum())


def test_the_browser_has_nothing_to_complain_of(page: Path, tmp_path: Path) -> None:
    document, said = browse(page, tmp_path, "--dump-dom")
    assert not re.search(r"CONSOLE|Refused to|ERR_", said), said
    assert len(re.findall(r"<svg ", document)) == 8


@pytest.mark.parametrize(
    ("name", "width", "flags", "colour"),
    [
        ("light", 1200, (), LIGHT_ONE),
        ("dark", 1200, ("--blink-settings=preferredColorScheme=0",), DARK_ONE),
        ("phone", 500, (), LIGHT_ONE),
    ],
)
def test_the_plots_are_drawn_in_the_pages_colours(
    page: Path,
    tmp_path: Path,
    name: str,
    width: int,
    flags: tuple[str, ...],
    colour: tuple[int, int, int],
) -> None:
    picture = tmp_path / f"{name}.png"
    browse(
        page, tmp_path / "profile", f"--screenshot={picture}", f"--window-size={width},2000", *flags
    )
    drawn = pixels_of(picture, colour)
    assert drawn > 5_000, f"only {drawn} pixels of the plots' colour"
