"""Hashes of all bytes of a small corpus on a disk: they distinguish a touched file from a changed one."""

from __future__ import annotations

from collections.abc import Callable

from headrace.formats.input_identity import content_hash
from headrace.formats.opener import etag_of
from headrace.storage.store import Store
from headrace.storage.uri import is_local_uri, split_uri
from producers.planning.corpus import Corpus
from schemas.errors import HeadraceError

MOST_BYTES = 256 << 20  # chosen: a fifth of a second with the CPU's SHA instructions
MOST_FILES = 1_000


def hash_contents(corpus: Corpus, open_store: Callable[[str], Store]) -> dict[str, str]:
    """sha256 by URI; empty for large corpora. A file that changes meanwhile is left out."""
    if corpus.file_bytes > MOST_BYTES or corpus.file_count > MOST_FILES:
        return {}
    found: dict[str, str] = {}
    for file in (it.file for it in corpus.files):
        if not is_local_uri(file.uri):
            continue  # the etag of an object depends on its content
        root, name = split_uri(file.uri)
        try:
            store = open_store(root)
            digest = content_hash(store, name)
            if etag_of(store, name, file.format) == (file.size, file.etag):
                found[file.uri] = digest
        except (HeadraceError, OSError):
            continue  # the job itself reports what is wrong with the file
    return found
