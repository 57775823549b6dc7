"""A quota is never passed, whatever comes at once, and a gateway that dies leaves nothing behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.storage.local import LocalStore
from producers.gateway.access.quota import OverQuota, Quota


def test_a_hundred_creations_at_once_never_pass_it(tmp_path: Path) -> None:
    gateways = [Quota(LocalStore(tmp_path)) for _ in range(3)]
    start = threading.Barrier(20)

    def create(i: int) -> bool:
        if i < 20:
            start.wait()
        try:
            gateways[i % 3].reserve("team", f"b{i}", 30, 1_000)
        except OverQuota:
            return False
        assert gateways[0].held("team") <= 1_000
        return True

    with ThreadPoolExecutor(20) as pool:
        made = sum(pool.map(create, range(100)))
    assert made == 33
    assert gateways[1].held("team") == 990


def test_what_is_given_back_can_be_reserved_again_and_only_once(tmp_path: Path) -> None:
    quota = Quota(LocalStore(tmp_path))
    quota.reserve("team", "a", 60, 100)
    quota.reserve("team", "a", 60, 100)  # the same batch again
    with pytest.raises(OverQuota, match="60 of 100 tokens are enqueued"):
        quota.reserve("team", "b", 50, 100)
    quota.release("team", "a")
    quota.release("team", "a")
    quota.reserve("team", "b", 50, 100)
    assert quota.held("team") == 50
    assert quota.held("other") == 0


def test_without_a_quota_everything_fits(tmp_path: Path) -> None:
    quota = Quota(LocalStore(tmp_path))
    quota.reserve("team", "a", 10**12, None)
    assert quota.held("team") == 10**12


def test_old_numbers_are_deleted_when_no_writer_can_be_at_them(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    quota = Quota(store)
    for i in range(40):
        quota.reserve("team", f"b{i}", 1, None)
    assert len(list(store.list("quota/"))) == 40
    later = Quota(store, now_s=lambda: 4e9)
    assert later.held("team") == 40
    assert len(list(store.list("quota/"))) == 16
    later.reserve("team", "more", 1, None)
    assert quota.held("team") == 41
