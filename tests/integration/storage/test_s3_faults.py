"""Whatever an S3 server does to a request: one commit, and `create` says whose it is."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace.storage.probe import probe_store
from headrace.storage.s3 import S3Options, S3Store
from schemas.errors import InputUnreadable, OutputNotWritable, StorageError

WHOLE, PARTS = "whole", "parts"


@pytest.fixture(params=[WHOLE, PARTS])
def store(request: pytest.FixtureRequest, fault_proxy: Any, s3_bucket: str) -> S3Store:
    found = _store(fault_proxy, s3_bucket)
    return found if request.param == WHOLE else found.by_parts()


def _store(proxy: Any, bucket: str, **options: Any) -> S3Store:
    chosen = {"timeout_s": 0.3, "backoff_s": 0.01, **options}
    return S3Store(bucket, "", S3Options(endpoint_url=proxy.endpoint, **chosen))


def first(number: int, fault: str, hits: Callable[[str, str], bool]) -> Callable[[str, str], str]:
    """The fault for the first requests that are hit, nothing for the others."""
    left = [number]

    def decide(method: str, path: str) -> str:
        if left[0] and hits(method, path):
            left[0] -= 1
            return fault
        return ""

    return decide


def is_commit(method: str, path: str) -> bool:
    """The request that gives an object its name."""
    if method == "PUT":
        return "uploadId" not in path
    return method == "POST" and "uploadId" in path


@pytest.mark.parametrize(
    ("fault", "times"),
    [("503", 1), ("500", 2), ("429", 1), ("drop", 1), ("lost", 2), ("hang", 1), ("late", 2)],
)
def test_a_commit_that_meets_a_fault_is_made_once_and_is_ours(
    store: S3Store, fault_proxy: Any, s3_bucket: str, fault: str, times: int
) -> None:
    fault_proxy.decide = first(times, fault, is_commit)
    assert store.create("part", b"ours")
    assert store.read("part") == b"ours"
    assert fault_proxy.commits(f"/{s3_bucket}/part") == 1
    assert not store.create("part", b"again")


@pytest.mark.parametrize("fault", ["503", "drop", "lost", "hang", "late"])
def test_an_object_of_another_is_never_taken_for_ours(
    store: S3Store, fault_proxy: Any, s3_server: Any, s3_bucket: str, fault: str
) -> None:
    def another_comes_first(method: str, path: str) -> str:
        if not is_commit(method, path) or any(s.fault == fault for s in fault_proxy.seen):
            return ""
        s3_server.client().put_object(Bucket=s3_bucket, Key="part", Body=b"theirs")
        return fault if fault != "late" else "drop"

    fault_proxy.decide = another_comes_first
    assert not store.create("part", b"ours")
    assert store.read("part") == b"theirs"
    assert not s3_server.client().list_multipart_uploads(Bucket=s3_bucket).get("Uploads")


@pytest.mark.parametrize("fault", ["503", "drop", "lost", "hang"])
def test_reading_listing_and_deleting_try_again(
    store: S3Store, fault_proxy: Any, fault: str
) -> None:
    store.create("a", b"1")
    for call, answer in (
        (lambda: store.read("a"), b"1"),
        (lambda: [info.name for info in store.list()], ["a"]),
        (lambda: store.replace("a", b"2"), None),
        (lambda: store.delete("a"), None),
    ):
        fault_proxy.decide = first(1, fault, lambda method, path: True)
        assert call() == answer
    assert store.head("a") is None


@pytest.mark.parametrize("fault", ["503", "drop", "cut"])
def test_a_body_that_breaks_off_is_read_again(fault_proxy: Any, s3_bucket: str, fault: str) -> None:
    store = _store(fault_proxy, s3_bucket, timeout_s=5)
    content = bytes(range(256)) * 4096
    store.create("large", content)
    fault_proxy.decide = first(1, fault, lambda method, path: method == "GET")
    assert store.read("large") == content
    fault_proxy.decide = first(1, fault, lambda method, path: method == "GET")
    with store.open("large") as file:
        file.seek(1000)
        assert file.read(10) == content[1000:1010]
        file.seek(500_000)
        assert file.read() == content[500_000:]


@pytest.mark.parametrize("answer", ["404", "409"])
def test_an_upload_that_vanishes_is_made_again_and_the_old_one_is_aborted(
    fault_proxy: Any, s3_server: Any, s3_bucket: str, answer: str
) -> None:
    fault_proxy.decide = first(2, answer, is_commit)
    store = _store(fault_proxy, s3_bucket).by_parts()
    assert store.create("part", b"ours")
    assert store.read("part") == b"ours"
    starts = [s for s in fault_proxy.seen if s.method == "POST" and s.path.endswith("?uploads")]
    assert len(starts) == 3
    assert not s3_server.client().list_multipart_uploads(Bucket=s3_bucket).get("Uploads")


def test_what_a_proxy_refuses_for_its_size_goes_in_parts(fault_proxy: Any, s3_bucket: str) -> None:
    def decide(method: str, path: str) -> str:
        return "413" if path.endswith("/part") and method == "PUT" else ""

    fault_proxy.decide = decide
    store = _store(fault_proxy, s3_bucket, timeout_s=5)
    assert store.create("part", b"ours")
    assert store.read("part") == b"ours"
    assert not store.create("part", b"again")


@pytest.mark.parametrize("answer", ["409", "412"])
def test_a_conflict_without_an_object_is_retried(
    fault_proxy: Any, s3_bucket: str, answer: str
) -> None:
    fault_proxy.decide = first(2, answer, is_commit)
    assert _store(fault_proxy, s3_bucket).create("part", b"ours")


def test_refusals_are_said_at_once_and_without_credentials(
    store: S3Store, fault_proxy: Any
) -> None:
    fault_proxy.decide = lambda method, path: "403"
    with pytest.raises(OutputNotWritable, match="access denied") as refused:
        store.create("a", b"")
    assert "testing" not in str(refused.value)
    with pytest.raises(InputUnreadable, match="access denied"):
        store.read("a")
    with pytest.raises(InputUnreadable, match="access denied"):
        list(store.list())
    fault_proxy.decide = lambda method, path: "501" if is_commit(method, path) else ""
    with pytest.raises(OutputNotWritable, match="If-None-Match"):
        store.create("a", b"")


def test_a_server_that_stays_down_is_a_storage_error_and_later_all_is_well(
    store: S3Store, fault_proxy: Any, s3_server: Any, s3_bucket: str
) -> None:
    store = _store(fault_proxy, s3_bucket, attempts=3)
    fault_proxy.decide = lambda method, path: "503"
    for call in (lambda: store.create("a", b""), lambda: store.read("a"), store.clean_orphans):
        with pytest.raises(StorageError, match=r"SlowDown|503"):
            call()
    assert len(fault_proxy.seen) <= 3 * 6
    fault_proxy.decide = lambda method, path: ""
    assert store.create("a", b"1")


def test_a_failed_upload_leaves_no_parts_behind(
    fault_proxy: Any, s3_server: Any, s3_bucket: str
) -> None:
    store = _store(fault_proxy, s3_bucket, attempts=2).by_parts()
    fault_proxy.decide = lambda method, path: "503" if "partNumber" in path else ""
    with pytest.raises(StorageError):
        store.create("part", b"ours")
    assert not s3_server.client().list_multipart_uploads(Bucket=s3_bucket).get("Uploads")


@pytest.mark.parametrize("seed", [1, 2])
def test_with_a_fifth_of_all_requests_failing_each_object_is_committed_once(
    fault_proxy: Any, s3_bucket: str, seed: int
) -> None:
    """Two writers for each of 12 names, half of them in parts; exactly one of the two wins."""
    dice = random.Random(seed)
    faults = ["503", "500", "drop", "lost", "late", "hang"]
    fault_proxy.decide = lambda *_: dice.choice(faults) if dice.random() < 0.2 else ""
    whole = _store(fault_proxy, s3_bucket, attempts=12)
    results: dict[tuple[int, str], bool] = {}

    def write(number: int, writer: str) -> None:
        store = whole if number % 2 else whole.by_parts()
        results[number, writer] = store.create(f"part-{number:02}", writer.encode())

    threads = [threading.Thread(target=write, args=(n, w)) for n in range(12) for w in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fault_proxy.decide = lambda *_: ""
    for number in range(12):
        winners = [w for w in "ab" if results[number, w]]
        assert len(winners) == 1
        assert whole.read(f"part-{number:02}") == winners[0].encode()
        assert fault_proxy.commits(f"/{s3_bucket}/part-{number:02}") == 1


def test_the_probe_passes_through_faults(fault_proxy: Any, s3_bucket: str) -> None:
    fault_proxy.decide = first(2, "lost", is_commit)
    probe_store(_store(fault_proxy, s3_bucket))
