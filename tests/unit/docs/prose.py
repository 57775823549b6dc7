"""Pages, docstrings and comments as sentences, and what makes them hard to read: for the tests."""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
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
# Phrases of docstrings and comments, each with what an engineer would write.
CODE_PHRASES = {
    r"(tokens|rows|times|number|footers) a second": "per second",
    r"(query|vector|label|chunks|items) a (row|worker|message)": "per row",
    r"(bytes|scale|one) a token": "per token",
    r"(seconds|milliseconds) a (row|chunk|load)": "per row",
    r"nothing, (when|unless)": "check that",
    r"(not |un)?safe for threads(?! and)|not for threads": "thread-safe",
    r"with (redis|the store) away": "if it is unreachable",
    r"signs? of life": "heartbeat",
    r"for ever": "forever",
    r"of late": "recently",
    r"oftener": "more often",
    r"with empty hands|a pair of hands": "idle, a worker",
    r"deadly": "poison",
}
SENTENCE_MEAN, SENTENCE_MOST = 16.0, 45
CODE_SENTENCE_MEAN, CODE_SENTENCE_MOST = 10.0, 38
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


ANY_WORD = re.compile(rf"\b(?:{'|'.join(WORDS)})\b")
ANY_PHRASE = re.compile(rf"\b(?:{'|'.join(CODE_PHRASES)})\b")
"""One search each for all of them in small letters: nearly every text has none."""


def found_words(text: str) -> list[str]:
    if not ANY_WORD.search(text.casefold()):
        return []
    return [w for w in WORDS if re.search(rf"\b{w}\b", text, re.IGNORECASE)]


def found_phrases(text: str) -> Iterator[tuple[str, str]]:
    """Each phrase of code, as it stands in the text, with what to write instead."""
    if ANY_PHRASE.search(text.casefold()):
        for phrase, better in CODE_PHRASES.items():
            if found := re.search(rf"\b({phrase})\b", text, re.IGNORECASE):
                yield found[0], better


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


@cache
def notes(source: str) -> list[tuple[int, str]]:
    """The docstrings of a module and its comments, each with its first line."""
    return [*_docstrings(source), *_comments(source)]


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield node.lineno, inspect.cleandoc(value.value)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    run: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if run and not (line == last + 1 and token.line.lstrip().startswith("#")):
            yield start, " ".join(run)
            run = []
        start = start if run else line
        run.append(token.string.lstrip("#: "))
        last = line
    if run:
        yield start, " ".join(run)


def note_sentences(note: str) -> Iterator[str]:
    """The sentences of a docstring or comment, without its tables, trees and pictures."""
    lines = ["" if re.search(r"\S  +\S|→|^\||[├└│─┘]", line) else line for line in note.split("\n")]
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        yield from sentences(plain(" ".join(paragraph.split())))


def note_faults(source: str) -> Iterator[str]:
    """Each thing in a module's docstrings and comments that makes it hard to read."""
    for line, note in notes(source):
        text = " ".join(plain(note).split())
        for word in found_words(text):
            yield f"{line}: '{word}' (say {WORDS[word]}): {text[:60]}"
        for phrase, better in found_phrases(text):
            yield f"{line}: '{phrase}' (say {better}): {text[:60]}"
        for sentence in note_sentences(note):
            if words(sentence) > CODE_SENTENCE_MOST:
                yield f"{line}: a sentence of {words(sentence)} words: {sentence[:60]}"
