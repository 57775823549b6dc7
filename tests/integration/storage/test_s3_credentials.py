"""Credentials that rotate in the shared file, and refusals whose reason a HEAD does not carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.storage.s3 import S3Options, S3Store
from schemas.errors import HeadraceError, InputUnreadable, OutputNotWritable


def write_key(file: Path, key: str) -> None:
    file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=secret-{key}\n")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3_server: Any) -> Path:
    """The shared file, with the key `first`; nothing else names credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write_key(file, "first")
    return file


@pytest.fixture
def store(fault_proxy: Any, s3_bucket: str, shared: Path) -> S3Store:
    found = S3Store(s3_bucket, "", S3Options(fault_proxy.endpoint, attempts=3, backoff_s=0.01))
    fault_proxy.accepted_key = "first"
    assert found.create("a", b"1")
    return found


@pytest.mark.parametrize("by_parts", [False, True])
def test_a_key_that_expired_is_read_again_from_the_shared_file(
    store: S3Store, fault_proxy: Any, shared: Path, by_parts: bool
) -> None:
    store = store.by_parts() if by_parts else store
    for number, key in enumerate(("second", "third")):
        fault_proxy.accepted_key = key
        write_key(shared, key)
        assert store.read("a") == b"1"
        assert store.create(f"part-{number}", b"ours")
        assert not store.create(f"part-{number}", b"again")
    assert [info.name for info in store.list()] == ["a", "part-0", "part-1"]


def test_a_commit_that_meets_an_expired_key_is_made_once(
    store: S3Store, fault_proxy: Any, shared: Path, s3_bucket: str
) -> None:
    fault_proxy.accepted_key = "second"
    write_key(shared, "second")
    assert store.create("part", b"ours")
    assert fault_proxy.commits(f"/{s3_bucket}/part") == 1


def test_a_key_that_stays_expired_is_said_with_its_code_and_may_pass(
    store: S3Store, fault_proxy: Any
) -> None:
    fault_proxy.accepted_key = "second"
    for call, kind in (
        (lambda: store.read("a"), InputUnreadable),
        (lambda: store.head("a"), InputUnreadable),
        (lambda: store.create("b", b""), OutputNotWritable),
    ):
        with pytest.raises(kind, match=r"ExpiredToken.*shared file") as refused:
            call()
        assert isinstance(refused.value, HeadraceError)
        assert refused.value.may_pass
        assert "secret" not in str(refused.value).replace("key and secret", "")


def test_a_head_that_is_refused_says_why(store: S3Store, fault_proxy: Any) -> None:
    fault_proxy.decide = lambda method, path: "403"
    with pytest.raises(InputUnreadable, match=r"access denied \(AccessDenied\)"):
        store.head("a")
