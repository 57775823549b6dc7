"""SVG from matplotlib, with colours that come from the page.

Each colour that matplotlib is given is a placeholder that becomes a CSS variable, so that light and
dark both work; text stays text; ids are made unique within the page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.process.numbers import axis_number
from schemas.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NARROW_IN, WIDE_IN = 6.4, 14.6
"""At 72 dots an inch: half of the page's width, and all of it."""

INK, MUTED, GRID, ONE, TWO, BAD, SOFT = (f"#0{i}0{i}0{i}" for i in range(1, 8))
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    ONE: "--one",
    TWO: "--two",
    BAD: "--bad",
    SOFT: "--soft",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "headrace",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "path.simplify": True,
    "text.parse_math": False,  # a label may hold dollars
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn figure and its text alternative."""

    svg: str
    title: str
    words: str
    is_wide: bool = False


class Canvas:
    """A figure being drawn; draw on `axes`."""

    def __init__(self, figure: Figure, axes: Axes) -> None:
        self.figure = figure
        self.axes = axes

    def picture(self, name: str, title: str, words: str, is_wide: bool = False) -> Picture:
        """The figure as a picture; `name` is unique within the page."""
        out = io.StringIO()
        none = {"Date": None, "Creator": None, "Type": None, "Format": None}
        with warnings.catch_warnings():
            # the browser draws the text, in fonts of its own, and has those of every script
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
            self.figure.savefig(out, format="svg", metadata=none)
        return Picture(themed(out.getvalue(), name, title, words), title, words, is_wide)

    def histogram(self, values: np.ndarray, edges: np.ndarray) -> None:
        """Count the values between the edges; values outside go to the outermost bins."""
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        self.axes.stairs(counts, edges, fill=True, color=ONE, alpha=0.85, linewidth=0)
        self.axes.set_ylim(0, max(1, counts.max()) * 1.14)

    def mark(self, value: float, name: str, level: int = 0) -> None:
        """A named vertical line; names on different levels do not run into each other."""
        self.axes.axvline(value, color=TWO, linewidth=1.5)
        self.axes.annotate(
            name,
            (value, 1),
            (3, -2 - 12 * level),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            color=TWO,
            fontsize=10,
        )

    def label(self, x: str, y: str) -> None:
        """Name the axes; an empty name is that of an axis of names."""
        self.axes.set_xlabel(x)
        self.axes.set_ylabel(y)
        if y:
            self.axes.yaxis.set_major_formatter(axis_number)


@contextmanager
def canvas(height_in: float = 3.4, width_in: float = NARROW_IN) -> Iterator[Canvas]:
    """An empty figure in the report's style.

    It is narrow on purpose: on a phone it shrinks to two thirds and its text can still be read.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("a report needs matplotlib: pip install 'headrace[report]'") from error
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width_in, height_in), dpi=72, layout="constrained")
        FigureCanvasSVG(figure)
        yield Canvas(figure, figure.add_subplot())


def themed(svg: str, name: str, title: str, words: str) -> str:
    """The SVG element alone, in the page's colours, with ids and a name of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    box = re.search(r'viewBox="[^"]+"', svg)
    body = svg[svg.index(">") + 1 :]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box[0] if box else ""} role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(words)}</desc>{body}'
    )
