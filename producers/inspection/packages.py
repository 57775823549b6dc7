"""The packages that headrace declares: which are installed, and which are of a version it does not take."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

NAME = "headrace"
DEVELOPMENT = "dev"
"""The extra of those who change headrace; nothing of it is needed to run it."""


@dataclass(slots=True)
class Declared:
    """A package that headrace's own metadata names."""

    name: str
    versions: SpecifierSet
    extras: list[str] = field(default_factory=list)
    """The extras that install it; none: it is always installed."""

    def problem(self, version: str) -> str | None:
        """What is wrong with an installed version; None: it is taken."""
        if self.versions.contains(version, prereleases=True):
            return None
        return f"headrace needs {self.versions}"


@dataclass(frozen=True, slots=True)
class Installed:
    """A package as it was found."""

    name: str
    version: str | None
    """None: not installed."""
    extras: Sequence[str] = ()
    elsewhere: Path | None = None
    """Where it was loaded from, if not from the common place."""
    problem: str | None = None


def common_place() -> Path:
    """The folder that packages are usually loaded from."""
    return Path(sysconfig.get_paths()["purelib"]).resolve()


def declared_by(source: Distribution) -> list[Declared]:
    """The packages that the metadata names for this system: always needed ones first, then by extra."""
    always: dict[str, Declared] = {}
    optional: dict[str, Declared] = {}
    extras = source.metadata.get_all("Provides-Extra") or []
    for line in source.requires or []:
        wanted = Requirement(line)
        if canonicalize_name(wanted.name) == NAME:
            continue
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            _add(always, wanted, None)
            continue
        for extra in extras:
            if extra != DEVELOPMENT and wanted.marker.evaluate({"extra": extra}):
                _add(optional, wanted, extra)
    return [*always.values(), *(one for key, one in optional.items() if key not in always)]


def _add(to: dict[str, Declared], wanted: Requirement, extra: str | None) -> None:
    key = canonicalize_name(wanted.name)
    found = to.setdefault(key, Declared(wanted.name, wanted.specifier))
    if extra is not None and extra not in found.extras:
        found.extras.append(extra)


def find_packages() -> Iterator[Installed]:
    """headrace itself, then all that it declares."""
    ours = distribution(NAME)
    yield _found(Declared(NAME, SpecifierSet()))
    for one in declared_by(ours):
        yield _found(one)


def _found(wanted: Declared) -> Installed:
    try:
        found = distribution(wanted.name)
    except PackageNotFoundError:
        return Installed(wanted.name, None, wanted.extras)
    place = Path(str(found.locate_file(""))).resolve()
    elsewhere = None if place == common_place() else place
    return Installed(
        wanted.name, found.version, wanted.extras, elsewhere, wanted.problem(found.version)
    )
