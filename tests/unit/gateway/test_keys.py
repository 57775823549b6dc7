"""Keys: shown once, kept as a digest, forgotten soon after they are deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.storage.local import LocalStore
from producers.gateway.access.keys import KEPT_S, Keyring, create_key, delete_key, list_keys
from producers.gateway.root import Root
from schemas.errors import ConfigError, JobNotFound


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(LocalStore(tmp_path))


def test_only_the_digest_of_a_key_is_kept(root: Root, tmp_path: Path) -> None:
    key, record = create_key(root, "team", ["read"], ["/data"], 500)
    assert len(key) == 46
    stored = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    names = " ".join(str(p) for p in tmp_path.rglob("*"))
    assert key.encode() not in stored
    assert key not in names
    assert [found for _, found in list_keys(root)] == [record]
    assert (record.scopes, record.prefixes, record.quota_tokens) == (("read",), ("/data",), 500)


def test_a_key_that_is_deleted_stops_working_within_seconds(root: Root) -> None:
    clock = [0.0]
    ring = Keyring(root, now=lambda: clock[0])
    key, record = create_key(root, "team", ["read"])
    assert ring.find(key) == record
    delete_key(root, "team")
    clock[0] = KEPT_S + 1
    assert ring.find(key) is None
    with pytest.raises(JobNotFound, match="no key team"):
        delete_key(root, "team")


@pytest.mark.parametrize("key", ["", "hr-", "hr-" + "x" * 43, "../../etc/passwd", "hr-" + "ä" * 43])
def test_what_is_no_key_of_ours_is_none(root: Root, key: str) -> None:
    assert Keyring(root).find(key) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scopes": ["write"]}, "scopes are of submit, read, admin, not write"),
        ({"scopes": []}, "not none"),
        ({"name": ""}, "1 to 64 characters"),
        ({"name": "a\n"}, "can be printed"),
        ({"prefixes": ["ftp://x"]}, "only local paths"),
        ({"name": "taken"}, "there is a key of the name"),
    ],
)
def test_a_key_that_has_no_meaning_is_refused(
    root: Root, given: dict[str, Any], message: str
) -> None:
    create_key(root, "taken", ["read"])
    with pytest.raises(ConfigError, match=message):
        create_key(root, **{"name": "team", "scopes": ["read"], **given})
