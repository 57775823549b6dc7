"""Writes reference/python.md from the docstrings of what is public: `python docs/write_python_page.py`."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import headrace
import schemas.errors
from headrace.settings import Settings
from producers.api.options import JobOptions

PAGE = Path(__file__).parent / "reference" / "python.md"

HEAD = (
    "# Python\n\nGenerated from the docstrings by `python docs/write_python_page.py`; a test compares "
    "them. How to use it: [from Python](../how-to/use-from-python.md).\n\nEverything that is public is "
    "on this page, and in `headrace.__all__`. Other modules may change at any time. `import headrace` "
    "takes a few hundredths of a second; the rest is imported at first use.\n"
)

FUNCTIONS = ("run", "submit", "open")
CLASSES = ("Job", "Output")
RESULTS = {
    "Snapshot": "The fields are those of [status](status.md).",
    "VerifyResult": "`.verdict` is `verified`, `incomplete` or `wrong`.",
}
PLUG_IN = ("Task", "TaskSpec", "Param", "LoadRequest", "Encodings")


def python_page() -> str:
    """The whole page."""
    lines = [HEAD, "## Functions", ""]
    for name in FUNCTIONS:
        lines += entry(f"headrace.{name}", getattr(headrace, name))
    lines += ["## Options", "", "Keyword options of `run` and `submit`, as in the commands:", ""]
    lines += ["| option | type | what it is |", "| --- | --- | --- |", *options(), ""]
    for name in CLASSES:
        kind = getattr(headrace, name)
        lines += [f"## headrace.{name}", "", prose(kind), ""]
        for own, member in public_members(kind):
            lines += entry(f"{name}.{own}", member)
    lines += ["## Results", ""]
    lines += [f"- `headrace.{n}`: {first(n)} {more}" for n, more in RESULTS.items()]
    lines += [
        "",
        "## Errors",
        "",
        "Each is `headrace.NAME`, except where no exit code is its own.",
        "",
    ]
    lines += ["```", *tree(), "```", "", "## Tasks of your own", ""]
    lines += ["A plug-in imports these; see [add a task](../development/add-a-task.md).", ""]
    lines += [f"- `headrace.{name}`: {first(name)}" for name in PLUG_IN]
    return "\n".join(lines) + "\n"


def entry(title: str, member: Any) -> list[str]:
    """A heading, the signature, the docstring."""
    if isinstance(member, property):
        return [f"### {title}", "", prose(member.fget), ""]
    shown = re.sub(r"\bself, |\bself\b", "", signature(member))
    return [f"### {title}", "", "```python", f"{title}{shown}", "```", "", prose(member), ""]


def signature(function: Any) -> str:
    """The signature with short names of types."""
    found = str(inspect.signature(function)).replace("'", "").replace("Unpack[JobOptions]", "…")
    return re.sub(r"(?:\w+\.)+(?=[A-Z])", "", found)


def prose(member: Any) -> str:
    """The docstring as Markdown; `Raises:` becomes a list."""
    doc = inspect.cleandoc(member.__doc__ or "")
    body, _, raises = doc.partition("\nRaises:\n")
    found = re.sub(r"(?<!\n)\n(?!\n)", " ", body).strip()
    if not raises:
        return found
    joined = re.sub(r"\n {5,}", " ", inspect.cleandoc("\n" + raises))
    items = [re.sub(r"^([\w, ]+): ", r"- `\1`: ", line.strip()) for line in joined.split("\n")]
    items = [re.sub(r"\. (\w+): ", r"\n- `\1`: ", item.rstrip(".")) for item in items]
    return f"{found}\n\nRaises:\n\n" + "\n".join(items)


def first(name: str) -> str:
    """The first line of a docstring."""
    return inspect.cleandoc(getattr(headrace, name).__doc__).split("\n")[0]


def public_members(kind: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(kind).items():
        if not name.startswith("_"):
            yield name, member


def options() -> Iterator[str]:
    hints = typing.get_type_hints(JobOptions)
    for name in JobOptions.__annotations__:
        shown = re.sub(r"(?:\w+\.)+(?=[A-Z])", "", inspect.formatannotation(hints[name]))
        shown = shown.replace("|", r"\|").replace("'", "")
        yield f"| `{name}` | `{shown}` | {Settings.model_fields[name].description} |"


def tree() -> list[str]:
    """The tree of errors as its file draws it."""
    drawn = inspect.cleandoc(schemas.errors.__doc__ or "").split("\n")
    start = next(i for i, line in enumerate(drawn) if line.strip() == "HeadraceError")
    return [line.removeprefix("    ").rstrip() for line in drawn[start:] if line.startswith("    ")]


if __name__ == "__main__":
    PAGE.write_text(python_page())
