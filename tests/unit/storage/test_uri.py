"""What a person writes for a place, and what it becomes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.settings import Settings
from headrace.storage.local import LocalStore, check_name
from headrace.storage.open import check_allowed, open_store
from headrace.storage.uri import mask_uri, normalise_uri, split_uri
from schemas.errors import ConfigError, HeadraceError, UriNotAllowed


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("/data/corpus/", "/data/corpus"),
        ("/data//./corpus/../x", "/data/x"),
        ("corpus", f"{os.getcwd()}/corpus"),
        (".", os.getcwd()),
        ("file:///data/a%20b", "/data/a b"),
        ("file://localhost/data", "/data"),
        ("/data/*.parquet", "/data/*.parquet"),
        ("s3a://bucket/key", "s3://bucket/key"),
        ("/data/{date}/a?[0-9]", "/data/{date}/a?[0-9]"),
        ("a:b/c", f"{os.getcwd()}/a:b/c"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/a//b/./c/", "s3://bucket/a/b/c"),
        ("s3://bucket/a b/日本/*.parquet?x#y", "s3://bucket/a b/日本/*.parquet?x#y"),
        ("s3://bucket/user@example.com/x", "s3://bucket/user@example.com/x"),
    ],
)
def test_a_place_has_one_spelling(given_: str, expected: str) -> None:
    assert normalise_uri(given_) == expected
    assert normalise_uri(expected) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a\0b",
        "gs://bucket/x",
        "http://host/x",
        "s3://",
        "s3:///x",
        "s3://x/y",
        "s3://bucket/../other",
        "s3://buck et/x",
        "file://host/x",
    ],
)
def test_what_is_no_place_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError):
        normalise_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA123:se/cret@bucket/x",
        "s3://AKIA123:secret@bucket",
        "s3://AKIA123@bucket/x",
        "https://AKIA123:secret@host/x",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError) as refused:
        normalise_uri(uri)
    assert "cret" not in str(refused.value)
    assert "AKIA" not in str(refused.value)
    assert "cret" not in mask_uri(uri)


def test_masking_leaves_what_is_not_secret() -> None:
    assert mask_uri("s3://bucket/a") == "s3://bucket/a"
    assert mask_uri("/data/a@b") == "/data/a@b"
    assert mask_uri("s3://bucket/user@example.com/x") == "s3://bucket/user@example.com/x"


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("/data/a.parquet", "/data", "a.parquet"),
        ("/a.parquet", "/", "a.parquet"),
        ("/", "/", ""),
        ("s3://bucket/a/b.parquet", "s3://bucket/a", "b.parquet"),
        ("s3://bucket/b.parquet", "s3://bucket", "b.parquet"),
        ("s3://bucket", "s3://bucket", ""),
    ],
)
def test_a_uri_is_a_folder_and_a_name(uri: str, folder: str, name: str) -> None:
    assert split_uri(uri) == (folder, name)


def test_prefixes_end_at_a_boundary() -> None:
    settings = Settings(allowed_prefixes=("/data/in", "s3://bucket/a/"))
    for inside in (
        "/data/in",
        "/data/in/x",
        "file:///data/in/x",
        "s3://bucket/a",
        "s3://bucket/a/b",
    ):
        check_allowed(inside, settings)
    for outside in ("/data", "/data/input", "/data/in/../x", "s3://bucket/ab", "s3://bucket2/a"):
        with pytest.raises(UriNotAllowed):
            check_allowed(outside, settings)
    check_allowed("/anything", Settings())


def test_a_root_prefix_allows_all_that_is_local() -> None:
    check_allowed("/data", Settings(allowed_prefixes=("/",)))


def test_a_symlink_does_not_lead_out_of_the_prefixes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    settings = Settings(allowed_prefixes=(str(tmp_path / "in"),))
    assert isinstance(open_store(str(tmp_path / "in" / "x"), settings), LocalStore)
    with pytest.raises(UriNotAllowed):
        open_store(str(tmp_path / "in" / "link" / "x"), settings)


@given(st.text())
def test_any_text_is_a_place_or_an_error_of_ours(text: str) -> None:
    try:
        clean = normalise_uri(text)
    except HeadraceError:
        return
    assert normalise_uri(clean) == clean
    assert clean.startswith(("/", "s3://"))


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b c", "\0", "~"]), max_size=5))
def test_a_name_that_is_let_in_stays_inside(parts: list[str]) -> None:
    name = "/".join(parts)
    try:
        check_name(name)
    except UriNotAllowed:
        return
    assert os.path.normpath(f"/root/{name}") == f"/root/{name}"
