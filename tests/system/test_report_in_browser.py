"""The report in a real browser: nothing refused, plots drawn, in light, in dark and on a phone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from headrace.settings import Settings
from producers.report import build_report
from tests.system.browser import browser
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


REACHED = """(() => {
  const it = document.activeElement;
  const box = it.getBoundingClientRect();
  return [it.tagName, it.getAttribute("href") || it.getAttribute("aria-label") || it.textContent,
          getComputedStyle(it).outlineStyle, box.width > 0];
})()"""
WANTED = """[...document.querySelectorAll("a[href], [tabindex='0'], summary")].length"""
# Source: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRAST = """(() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (it) => {
    for (; it; it = it.parentElement) {
      const colour = getComputedStyle(it).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let worst = [99, ""];
  for (const it of document.querySelectorAll("p, h1, h2, h3, td, th, a, b, span, small, li, text")) {
    const style = getComputedStyle(it);
    const ink = it.tagName === "text" ? style.fill : style.color;
    const [a, b] = [light(ink), light(ground(it))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (it.textContent.trim() && ratio < worst[0]) worst = [ratio, it.tagName + " " + it.textContent];
  }
  return worst;
})()"""


def test_every_link_and_every_wide_table_is_reached_with_the_tab_key(
    page: Path, tmp_path: Path
) -> None:
    with browser(tmp_path / "profile") as it:
        it.open(page)
        wanted = it.evaluate(WANTED)
        reached = []
        for _ in range(wanted):
            it.key("Tab", 9)
            reached.append(it.evaluate(REACHED))
        assert it.said == []
    assert reached[0][1] == "#accounting", "the first stop leads past the head of the page"
    assert len({tuple(r[:2]) for r in reached}) >= wanted - 1, "two links may lead to one place"
    assert all(outline != "none" and seen for _, _, outline, seen in reached), "focus is visible"
    names = " ".join(str(r[1]) for r in reached)
    for needed in ("#time", "#errors", "#about", "Errors by class", "Slowest chunks", "Workers"):
        assert needed in names


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_the_page_without_scrolling_sideways_and_all_text_can_be_read(
    page: Path, tmp_path: Path, dark: bool
) -> None:
    with browser(tmp_path / "profile") as it:
        it.open(page, width=390, height=844, dark=dark)
        assert it.evaluate("document.documentElement.scrollWidth") <= 390
        ratio, where = it.evaluate(CONTRAST)
        assert it.said == []
    assert ratio >= 4.5, f"{ratio:.2f}: {where[:80]}"
