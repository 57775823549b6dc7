"""Pages as sentences, paragraphs and table cells, and what is wrong with them: for the tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# Words of another English, each with what an engineer would write.
WORDS = {
    "whoever": "the one that, any process that",
    "nobody": "no worker, no process",
    "somebody": "a person, a process",
    "anew": "again",
    "hear": "learn, get",
    "hears": "learns, gets",
    "told": "sent, reported, written",
    "lies": "is",
    "stands": "is",
    "stood": "was",
    "mend": "fix",
    "in hand": "current, in progress",
    "empty hands": "no work",
    "the door": "the entry point",
    "doors": "entry points",
    "anybody": "any person",
    "go on with": "continue",
    "at hand": "available",
}
SENTENCE_MEAN, SENTENCE_MOST = 16.0, 45
PARAGRAPH_MOST, CELL_MOST = 80, 45

Kind = Literal["paragraph", "cell"]


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list item or table cell, with the line it starts on, from 1."""

    kind: Kind
    line: int
    text: str


def blocks(page: str) -> Iterator[Block]:
    """What a person reads of a Markdown page, without code blocks, headings and markup."""
    within, kept, start = False, list[str](), 0
    for number, line in enumerate([*page.split("\n"), ""], 1):
        bare = line.strip()
        fence = bare.startswith("```")
        within ^= fence
        table = bare.startswith("|")
        starts = bool(re.match(r"([-*]|\d+\.) ", bare))
        code = within or fence or (line.startswith("    ") and not kept)
        if kept and (not bare or code or table or starts or bare.startswith(("#", "<!--"))):
            yield Block("paragraph", start, plain(" ".join(kept)))
            kept = []
        if code or not bare or bare.startswith(("#", "<!--", "![")):
            continue
        if table:
            inner = re.sub(r"`[^`]*`", lambda m: m.group().replace("|", "/"), bare)
            for cell in inner.replace(r"\|", "/").strip("|").split("|"):
                yield Block("cell", number, plain(cell))
            continue
        start = start if kept else number
        kept.append(re.sub(r"^([-*]|\d+\.) ", "", bare))


def plain(text: str) -> str:
    """Markdown without links' targets and emphasis; a piece of code counts as one word."""
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"`[^`]*`", "code", text)
    return re.sub(r"[*\[\]]", "", text).strip()


def words(text: str) -> int:
    return len(re.findall(r"[^\s/–→=+]*\w[^\s/–→=+]*", text))


def sentences(text: str) -> list[str]:
    """Split after a full stop, question mark or colon that is followed by space."""
    return [part for part in re.split(r"(?<=[.!?:])\s+", text) if words(part)]


def found_words(text: str) -> list[str]:
    return [w for w in WORDS if re.search(rf"\b{w}\b", text, re.IGNORECASE)]


def faults(page: str) -> Iterator[str]:
    """Each thing on a page that makes it hard to read, with its line."""
    counts: list[int] = []
    for block in blocks(page):
        for word in found_words(block.text):
            yield f"{block.line}: '{word}' (say {WORDS[word]}): {block.text[:60]}"
        most = PARAGRAPH_MOST if block.kind == "paragraph" else CELL_MOST
        if words(block.text) > most:
            yield f"{block.line}: a {block.kind} of {words(block.text)} words: {block.text[:60]}"
        if block.kind == "paragraph":
            lengths = [words(s) for s in sentences(block.text)]
            counts += lengths
            if max(lengths, default=0) > SENTENCE_MOST:
                yield f"{block.line}: a sentence of {max(lengths)} words: {block.text[:60]}"
    if len(counts) > 3 and sum(counts) / len(counts) > SENTENCE_MEAN:
        yield f"a sentence has {sum(counts) / len(counts):.1f} words on average"
