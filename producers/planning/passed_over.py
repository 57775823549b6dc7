"""Files that a listing of the input skips, counted and named for a warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from headrace.formats.catalog import READ_AS

SHOWN = 5


@dataclass(slots=True)
class PassedOver:
    """Files of a folder whose name and first bytes show no supported format."""

    count: int = 0
    names: list[str] = field(default_factory=list)
    """The first few."""
    peeks: int = 0
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
            )
