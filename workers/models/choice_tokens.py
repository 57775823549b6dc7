"""The tokens of some answers as a tree: what they begin with in common is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ChoiceTree:
    """What is computed behind a prompt so that every token of every choice has a probability.

    Node 0 is the prompt's last token. The others are the tokens of choices that another token
    follows, each as often as it begins differently. A choice of one token adds none.
    """

    tokens: np.ndarray
    """Token of nodes 1, 2, …: int32 `[nodes - 1]`; a node comes behind the one before it."""
    parents: np.ndarray
    """The node before each of them, int64 `[nodes - 1]`; 0: the prompt."""
    depths: np.ndarray
    """Tokens from the prompt to each of them, itself included, int64 `[nodes - 1]`."""
    node_of: np.ndarray
    """The node that predicts each token of each choice, one choice after another, int64 `[all]`."""
    next_of: np.ndarray
    """That token, int64 `[all]`."""
    lengths: np.ndarray
    """Tokens of each choice, int64 `[choices]`."""

    @property
    def starts(self) -> np.ndarray:
        """Where each choice begins in `node_of`, int64 `[choices]`."""
        return np.concatenate(([0], np.cumsum(self.lengths)[:-1]))

    @property
    def sees(self) -> np.ndarray:
        """Whether a node of 1, 2, … sees another: itself and those before it, bool `[n, n]`."""
        count = len(self.tokens)
        found = np.eye(count, dtype=bool)
        for node, parent in enumerate(self.parents.tolist()):
            if parent:
                found[node] |= found[parent - 1]
        return found

    def paths(self) -> list[np.ndarray]:
        """Nodes of the longest ways behind the prompt, which together hold all nodes."""
        inner = set(self.parents.tolist())
        sees = self.sees
        leaves = [node for node in range(len(self.tokens)) if node + 1 not in inner]
        return [np.flatnonzero(sees[leaf]) + 1 for leaf in leaves] or [np.zeros(0, np.int64)]


def tree_of(choices: Sequence[Sequence[int]], names: Sequence[str]) -> ChoiceTree:
    """The tree of some choices, each as its tokens; `names` are for messages.

    Raises:
        ConfigError: a choice has no tokens, or the same as another.
    """
    nodes: dict[tuple[int, ...], int] = {(): 0}
    node_of: list[int] = []
    seen: dict[tuple[int, ...], str] = {}
    for choice, name in zip(map(tuple, choices), names, strict=True):
        if not choice:
            raise ConfigError(f"--choices: {name!r} has no token in the model's vocabulary")
        if choice in seen:
            raise ConfigError(
                f"--choices: {seen[choice]!r} and {name!r} have the same tokens for this model"
            )
        seen[choice] = name
        for end in range(len(choice)):
            node_of.append(nodes.setdefault(choice[:end], len(nodes)))
    inner = list(nodes)[1:]
    return ChoiceTree(
        tokens=np.array([path[-1] for path in inner], dtype=np.int32),
        parents=np.array([nodes[path[:-1]] for path in inner], dtype=np.int64),
        depths=np.array([len(path) for path in inner], dtype=np.int64),
        node_of=np.array(node_of, dtype=np.int64),
        next_of=np.array([token for choice in choices for token in choice], dtype=np.int64),
        lengths=np.array([len(choice) for choice in choices], dtype=np.int64),
    )
