"""The form of an upload, in pieces of any size: its file on the disk, or a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.gateway.files.upload import Upload
from producers.gateway.problems import Problem

B = b"xyz"


def form(*parts: tuple[str, bytes]) -> bytes:
    body = b""
    for head, content in parts:
        body += b"--" + B + b"\r\nContent-Disposition: form-data; " + head.encode()
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + b"--" + B + b"--\r\n"


FILE = 'name="file"; filename="in.jsonl"'
PURPOSE = ('name="purpose"', b"batch")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), step=st.integers(1, 50))
def test_a_file_arrives_as_it_was_sent(content: bytes, step: int, tmp_path: Path) -> None:
    upload = Upload(B, tmp_path / "up", 1_000)
    body = form(PURPOSE, (FILE, content))
    if b"\r\n--" + B in content:
        return
    for at in range(0, len(body), step):
        upload.feed(body[at : at + step])
    upload.close()
    assert upload.is_whole
    assert (upload.filename, upload.fields) == ("in.jsonl", {"purpose": "batch"})
    assert (tmp_path / "up").read_bytes() == content
    assert upload.bytes == len(content)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (form((FILE, b"x" * 101)), 413, "larger than 100 bytes"),
        (form((FILE, b"1"), (FILE, b"2")), 400, "two files"),
        (form(('name="purpose"', b"x" * 1_001)), 400, "too long"),
        (form(*[PURPOSE] * 17), 400, "more than 16 parts"),
        (b"not a form", 400, "no multipart form"),
    ],
)
def test_a_form_that_cannot_be_taken_says_why(
    body: bytes, status: int, message: str, tmp_path: Path
) -> None:
    upload = Upload(B, tmp_path / "up", 100)
    with pytest.raises(Problem, match=message) as found:
        upload.feed(body)
    upload.close()
    assert found.value.status == status


def test_a_form_that_is_cut_off_is_not_whole(tmp_path: Path) -> None:
    upload = Upload(B, tmp_path / "up", 100)
    upload.feed(form(PURPOSE, (FILE, b"content"))[:-20])
    upload.close()
    assert not upload.is_whole
