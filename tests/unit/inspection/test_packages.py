"""The doctor's packages are those of headrace's own metadata, with the versions that it takes."""

from __future__ import annotations

from email.message import Message
from importlib.metadata import distribution, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from producers.inspection.packages import declared_by, find_packages


class Metadata:
    """A distribution that declares these lines."""

    def __init__(self, requires: list[str], extras: list[str]) -> None:
        self.requires = requires
        self.metadata = Message()
        for extra in extras:
            self.metadata["Provides-Extra"] = extra


def declared(requires: list[str], *extras: str) -> list[tuple[str, str, list[str]]]:
    source: Any = Metadata(requires, list(extras))
    return [(d.name, str(d.versions), d.extras) for d in declared_by(source)]


def test_a_package_is_named_with_the_extras_that_install_it() -> None:
    lines = [
        "redis>=6",
        "jinja2>=3.1; extra == 'report'",
        "Jinja2>=3.1; extra == 'gateway'",
        "ruff; extra == 'dev'",
        "headrace[model]; extra == 'report'",
        "pywin; sys_platform == 'win32' and extra == 'report'",
    ]
    assert declared(lines, "report", "gateway", "dev") == [
        ("redis", ">=6", []),
        ("jinja2", ">=3.1", ["report", "gateway"]),
    ]


def test_a_package_that_is_always_installed_is_of_no_extra() -> None:
    assert declared(["redis>=6", "redis>=6; extra == 'more'"], "more") == [("redis", ">=6", [])]


def test_every_package_of_ours_is_looked_for() -> None:
    names = {canonicalize_name(it.name) for it in find_packages()}
    lines = [Requirement(line) for line in requires("headrace") or []]
    needed = {canonicalize_name(r.name) for r in lines if r.marker is None}
    assert "headrace" in names
    assert needed <= names
    assert {"torch", "boto3", "llguidance", "accelerate"} <= names
    assert "ruff" not in names


def test_a_version_that_is_not_taken_is_a_problem() -> None:
    (one,) = declared_by(Metadata(["redis>=6,<9"], []))  # type: ignore[arg-type]
    assert one.problem("8.1.0") is None
    assert one.problem("9.0") == "headrace needs <9,>=6"
    assert one.problem("7.0rc1") is None


def test_what_is_installed_here_is_taken() -> None:
    found = {it.name: it for it in find_packages()}
    assert found["headrace"].version == distribution("headrace").version
    assert [it.name for it in found.values() if it.problem] == []
    assert all(isinstance(it.elsewhere, Path | None) for it in found.values())
