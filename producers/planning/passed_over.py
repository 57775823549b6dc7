"""Files that a listing of the input skips, counted and named for a warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from headrace.formats.catalog import READ_AS, by_name
from headrace.process.numbers import plural

SHOWN = 5
NO_DATA = frozenset(
    {"_temporary", "_headrace", "_traces", "_delta_log", "_change_data", "_spark_metadata"}
)
"""Folders in which files look like data and are none, or not yet."""


@dataclass(slots=True)
class PassedOver:
    """Files of a folder whose name and first bytes show no supported format."""

    count: int = 0
    names: list[str] = field(default_factory=list)
    """The first few."""
    peeks: int = 0
    """Files that were opened, and were none."""
    not_opened: int = 0
    """Of those that were passed over: judged by their name alone."""
    hidden: int = 0
    """Files that their name says are data, and that are hidden."""
    hidden_names: list[str] = field(default_factory=list)
    """The first few."""
    notes: list[str] = field(default_factory=list)
    """Which tables were read."""
    links: int = 0
    """Files that a link leads to and that are listed under their own name too."""
    link_names: list[str] = field(default_factory=list)
    """The first few."""
    odd: int = 0
    """Keys that no URI can name."""
    odd_names: list[str] = field(default_factory=list)
    """The first few."""

    broken: list[str] = field(default_factory=list)
    """Links to files that are not there."""

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.names) < SHOWN:
            self.names.append(name)

    def add_hidden(self, name: str) -> None:
        """A name that is left out as hidden; counts if it is one of data otherwise."""
        *folders, file = name.split("/")
        is_none = any(f.startswith(".") or f in NO_DATA for f in folders) or file.startswith("._")
        if is_none or by_name(file) is None:
            return
        self.hidden += 1
        if len(self.hidden_names) < SHOWN:
            self.hidden_names.append(name)

    def add_odd(self, name: str) -> None:
        self.odd += 1
        if len(self.odd_names) < SHOWN:
            self.odd_names.append(name)

    def add_link(self, name: str) -> None:
        self.links += 1
        if len(self.link_names) < SHOWN:
            self.link_names.append(name)

    def warnings(self) -> Iterator[str]:
        yield from self.notes
        if self.links:
            more = f" and {self.links - len(self.link_names):,} more" if self.links > SHOWN else ""
            yield (
                f"{self.links:,} files of the input are links to files that are read already, and "
                f"count once: {', '.join(self.link_names)}{more}"
            )
        if self.hidden:
            more = f" and {self.hidden - SHOWN:,} more" if self.hidden > SHOWN else ""
            yield (
                f"{plural(self.hidden, 'file')} of the input left out, whose name or folder begins with _ "
                f"or .: {', '.join(self.hidden_names)}{more}; Spark and pyarrow leave them out too. To "
                "read them, rename them or name each as an INPUT"
            )
        if self.broken:
            shown = ", ".join(self.broken[:SHOWN])
            yield (
                f"{len(self.broken):,} links in the input lead to files that are not there, whose rows "
                f"are missing: {shown}{', …' if len(self.broken) > SHOWN else ''}"
            )
        if self.odd:
            more = f" and {self.odd - len(self.odd_names):,} more" if self.odd > SHOWN else ""
            yield (
                f"{self.odd:,} keys of the input were passed over, since a part of them between two / "
                f"is empty, . or ..: {', '.join(self.odd_names)}{more}; copy them to other keys"
            )
        if self.count:
            more = f" and {self.count - len(self.names):,} more" if self.count > SHOWN else ""
            yield (
                f"{self.count:,} of the input's files passed over: {', '.join(self.names)}{more}; "
                f"a folder is searched for {READ_AS}. To read others, name them: --pattern"
                + (
                    f" ({self.not_opened:,} were judged by their name alone)"
                    if self.not_opened
                    else ""
                )
            )
