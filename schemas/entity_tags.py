"""Tags of tokens (`B-PER`, `I-PER`, `O`) and the entities that they say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

OUTSIDE = "O"
Span = tuple[str, int, int]
"""Label, start and end; the end is past the last character, or the last token itself."""


def entities_of_tags(tags: Sequence[str]) -> list[Span]:
    """The entities of one row's tags (BIO, IOB1 or IOBES), with first and last token.

    An entity may begin with `I-`, as in conlleval; one ends where the label changes.

    Source: seqeval 1.2.2, get_entities in its default mode
    """
    found: list[Span] = []
    before, label, start = OUTSIDE, "", 0
    for at, whole in enumerate([*tags, OUTSIDE]):
        tag, own = whole[:1] or OUTSIDE, whole[1:].split("-", 1)[-1] or "_"
        if _ends(before, tag) or (before != OUTSIDE and label != own):
            found.append((label, start, at - 1))
        if _begins(before, tag) or (tag != OUTSIDE and label != own):
            start = at
        before, label = tag, own
    return found


def spans_of_tags(tokens: Sequence[str], tags: Sequence[str]) -> list[Span]:
    """The entities of tagged tokens, in characters of the tokens joined by single spaces.

    Raises:
        ValueError: there are not as many tags as tokens.
    """
    if len(tokens) != len(tags):
        raise ValueError(f"{len(tokens)} tokens and {len(tags)} tags")
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(token) + 1)
    return [
        (label, starts[first], starts[last] + len(tokens[last]))
        for label, first, last in entities_of_tags(tags)
    ]


def tags_of_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The tags by which a model says these entities: `O`, then `B-` and `I-` of each label."""
    return (OUTSIDE, *(f"{side}-{label}" for label in labels for side in "BI"))


def labels_of_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The labels of entities among a model's tags, each once, in order."""
    return tuple(dict.fromkeys(tag[2:] for tag in tags if tag != OUTSIDE))


def overlaps(spans: Sequence[Span]) -> Iterator[tuple[Span, Span]]:
    """Neighbours in the order of the text that share a character."""
    ordered = sorted(spans, key=lambda span: (span[1], span[2]))
    for one, other in pairwise(ordered):
        if other[1] < one[2]:
            yield one, other


def _ends(before: str, tag: str) -> bool:
    return before in "ES" or (before in "BI" and tag in "BSO")


def _begins(before: str, tag: str) -> bool:
    return tag in "BS" or (before in "ESO" and tag in "EI")
