"""What only a disk does: links, rights, a full disk, a kill between two steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.storage.local import TMP, LocalStore
from schemas.errors import OutputNotWritable, StorageError, UriNotAllowed


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files(store: LocalStore) -> list[str]:
    return sorted(str(p.relative_to(store.uri)) for p in Path(store.uri).rglob("*") if p.is_file())


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        timeout=60,
    )


def test_nothing_is_made_by_opening(store: LocalStore) -> None:
    assert not Path(store.uri).exists()


def test_no_temporary_file_stays_behind(store: LocalStore) -> None:
    store.create("a", b"1")
    store.create("a", b"2")
    store.replace("b", b"1")
    assert files(store) == ["a", "b"]


def test_a_created_file_is_the_one_that_was_built(store: LocalStore) -> None:
    built = store.scratch() / "part"
    built.write_bytes(b"1")
    store.create_from_file("data/part-0", built)
    assert built.samefile(Path(store.uri) / "data/part-0")
    assert [info.name for info in store.list()] == ["data/part-0"]


def test_a_file_system_limit_is_disk_full_and_leaves_nothing(store: LocalStore) -> None:
    """The limit on a file's size simulates a full disk: writing fails half-way."""
    code = """
import resource, sys
from schemas.errors import DiskFull
from headrace.storage.local import LocalStore
store = LocalStore(sys.argv[1])
store.create("before", b"1")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (store.create, store.replace):
    try:
        write("data/part-0", b"x" * 5000)
    except DiskFull as error:
        print(error)
assert store.create("small", b"1")
"""
    done = run(code, store.uri)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no space left for data/part-0") == 2
    assert files(store) == ["before", "small"]


def test_a_really_full_disk_is_disk_full(tmp_path: Path) -> None:
    """In a mount namespace of its own, with a file system of 64 kB."""
    code = """
import subprocess, sys
from schemas.errors import DiskFull
from headrace.storage.local import LocalStore
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", sys.argv[1]], check=True)
store = LocalStore(sys.argv[1])
try:
    store.create("data/part-0", b"x" * 100_000)
except DiskFull:
    assert [i.name for i in store.list()] == []
    assert store.create("data/part-0", b"x" * 1000)  # there is room again
    print("full")
"""
    own_mounts = ["unshare", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*own_mounts, sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        timeout=60,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine gives no mount namespace; the limit above stands in for it")
    assert done.stdout == "full\n", done.stderr


@pytest.mark.parametrize("fault", ["link", "fsync", "replace"])
def test_a_kill_in_the_middle_leaves_no_half_file(store: LocalStore, fault: str) -> None:
    """Killed on entering the step: the name is not there, and the next writer gets it."""
    code = f"""
import os, signal, sys
from headrace.storage.local import LocalStore
store = LocalStore(sys.argv[1])
os.{fault} = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
store.{"replace" if fault == "replace" else "create"}("part", b"x" * 100_000)
"""
    assert run(code, store.uri).returncode == -signal.SIGKILL
    assert list(store.list()) == []
    assert store.create("part", b"whole")
    assert store.read("part") == b"whole"
    assert len(store.clean_orphans()) == 1
    assert files(store) == ["part"]
    assert store.clean_orphans() == ()


def test_cleaning_takes_scratch_folders_too(store: LocalStore) -> None:
    (store.scratch() / "part").write_bytes(b"half")
    store.create("a", b"1")
    assert len(store.clean_orphans()) == 1
    assert files(store) == ["a"]
    assert os.listdir(Path(store.uri) / TMP) == []


def test_a_file_where_a_folder_must_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore(tmp_path / "file" / "out")
    with pytest.raises(OutputNotWritable, match="there is a file where a folder must be"):
        store.create("a", b"1")
    assert store.head("a") is None


def test_a_place_that_takes_no_files_is_not_writable() -> None:
    """/sys and /proc refuse even root."""
    if not Path("/sys/kernel").is_dir():
        pytest.skip(
            "no /sys on this system; the next test covers rights where it does not run as root"
        )
    with pytest.raises(OutputNotWritable, match="rights"):
        LocalStore("/sys/kernel/headrace").create("a", b"1")


def test_missing_rights_are_said(tmp_path: Path) -> None:
    """As nobody, where the tests run as root: rights do not bind root."""
    code = """
import os, sys
if os.getuid() == 0:
    import headrace.storage.local, pyarrow.fs  # what nobody may not be able to import
    os.setuid(65534)
from schemas.errors import InputUnreadable, OutputNotWritable
from headrace.storage.local import LocalStore
store = LocalStore(sys.argv[1])
for call, error in (
    (lambda: store.read("file"), InputUnreadable),
    (lambda: store.open("file"), InputUnreadable),
    (lambda: list(store.list()), InputUnreadable),
    (lambda: store.create("x", b""), OutputNotWritable),
    (lambda: store.replace("x", b""), OutputNotWritable),
    (lambda: store.delete("file"), OutputNotWritable),
    (lambda: store.scratch(), OutputNotWritable),
):
    try:
        call()
    except error as found:
        print(error.__name__, found)
"""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "file").write_bytes(b"1")
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    (folder / "file").chmod(0)
    folder.chmod(0)
    try:
        done = run(code, str(folder))
    finally:
        folder.chmod(0o700)
    lines = done.stdout.splitlines()
    assert len(lines) == 7, done.stdout + done.stderr
    assert all("no rights to" in line and str(folder) in line for line in lines)


def test_a_symlink_that_leads_out_is_refused(store: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    store.create("a", b"1")
    (Path(store.uri) / "file-link").symlink_to(outside / "file")
    (Path(store.uri) / "folder-link").symlink_to(outside)
    for name in ("file-link", "folder-link/file", "folder-link/new"):
        for call in (store.head, store.read, store.open, store.delete):
            with pytest.raises(UriNotAllowed):
                call(name)
        with pytest.raises(UriNotAllowed):
            store.create(name, b"x")
        with pytest.raises(UriNotAllowed):
            store.replace(name, b"x")
    with pytest.raises(UriNotAllowed):
        list(store.list())
    assert (outside / "file").read_bytes() == b"secret"
    assert os.listdir(outside) == ["file"]


@pytest.mark.parametrize("follow_links", [True, False])
@pytest.mark.parametrize("link", ["_headrace/tmp", "_headrace", "data"])
def test_nothing_is_written_or_deleted_behind_a_link_that_leads_out(
    tmp_path: Path, link: str, follow_links: bool
) -> None:
    outside = tmp_path / "outside"
    (outside / "tmp").mkdir(parents=True)
    for kept in (outside / "kept", outside / "tmp" / "kept"):
        kept.write_bytes(b"theirs")
    store = LocalStore(tmp_path / "output", follow_links=follow_links)
    (tmp_path / "output" / link).parent.mkdir(parents=True)
    (tmp_path / "output" / link).symlink_to(outside)
    source = tmp_path / "source"
    source.write_bytes(b"ours")
    writes = [
        lambda: store.create(f"{link}/new", b"ours"),
        lambda: store.create_from_file(f"{link}/new", source),
        lambda: store.replace(f"{link}/kept", b"ours"),
        lambda: store.delete(f"{link}/kept"),
    ]
    if link != "data":
        writes += [store.clean_orphans, store.scratch, lambda: store.create("a", b"")]
    for write in writes:
        with pytest.raises(UriNotAllowed, match="symlink that leads out"):
            write()
    found = sorted(p.relative_to(outside).as_posix() for p in outside.rglob("*"))
    assert found == ["kept", "tmp", "tmp/kept"]
    assert (outside / "kept").read_bytes() == b"theirs"


def test_a_link_in_place_of_a_file_is_replaced_and_deleted_not_followed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    store = LocalStore(tmp_path / "output", follow_links=True)
    (tmp_path / "output").mkdir()
    for name in ("a", "b"):
        (tmp_path / "output" / name).symlink_to(theirs)
    assert store.read("a") == b"theirs"
    store.replace("a", b"ours")
    store.delete("b")
    assert theirs.read_bytes() == b"theirs"
    assert (store.read("a"), store.head("b")) == (b"ours", None)


def test_a_symlink_inside_is_followed_and_a_circle_is_not(store: LocalStore) -> None:
    store.create("real/a", b"1")
    (Path(store.uri) / "alias").symlink_to("real")
    (Path(store.uri) / "real" / "up").symlink_to("..")
    (Path(store.uri) / "dangling").symlink_to("nothing")
    assert [info.name for info in store.list()] == ["alias/a", "real/a"]
    assert store.read("alias/a") == b"1"


def test_a_folder_is_not_an_object(store: LocalStore) -> None:
    store.create("a/b", b"1")
    assert store.head("a") is None
    assert store.read("a") is None
    with pytest.raises(FileNotFoundError):
        store.open("a")


def test_the_root_itself_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = LocalStore(tmp_path / "link")
    assert store.create("a", b"1")
    assert store.uri == str(tmp_path / "link")


def test_an_input_that_fails_while_it_is_read_is_a_storage_error() -> None:
    """/proc/self/mem opens, and gives an input/output error at its first byte."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("no /proc on this system")
    with pytest.raises(StorageError, match="cannot read mem"):
        LocalStore("/proc/self").read("mem")
