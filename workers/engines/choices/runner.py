"""Runs a language model over prompts, and reads how likely it finds each choice behind them.

Packed, a batch is one forward: the prompts without what they share, each with the tree of the
choices behind it. Otherwise there is one forward for each way through the tree. `Runner` compares
both when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from headrace.tasks.contract import Encodings
from schemas.errors import ModelError
from workers.engines.choices import tree_attention
from workers.engines.choices.shared_start import shared_tokens, to_share, without
from workers.engines.packed.attention import runs_of
from workers.engines.packed.engine import Runner
from workers.engines.packed.mode_choice import Mode
from workers.models.choice_tokens import ChoiceTree

WORDS_PER_TOKEN = 4096
"""Logits that cost as much memory as a token's states in a layer. Chosen: a budget of 2,048 tokens
then has 30 MB of logits."""


class ChoiceRunner(Runner):
    """Numbers are the logarithms of the choices' probabilities, `[rows, choices]`."""

    def __init__(self, *args: Any, trees: Sequence[ChoiceTree], **kwargs: Any) -> None:
        """`trees`: a batch's `extra` says which is behind a row; without, the first."""
        super().__init__(*args, **kwargs)
        self._trees = trees
        self._known = np.zeros(0, dtype=np.int32)
        self._shared: dict[int, tuple[Any, Any]] = {}

    def set_mode(self, mode: Mode) -> None:
        super().set_mode(mode)
        if mode == "packed":
            tree_attention.register()
            self._model.set_attn_implementation(tree_attention.NAME)
        self._known = self._known[:0]

    def costs(self, rows: Encodings) -> np.ndarray:
        """Tokens of the budget that each row takes, int64 `[rows]`."""
        nodes = max(len(tree.tokens) for tree in self._trees)
        logits = (1 + nodes) * int(self._config.vocab_size) // WORDS_PER_TOKEN
        shared = shared_tokens(rows) if self.mode == "packed" else 0
        return np.asarray(rows.lengths - shared + nodes + logits)

    def _packed(self, batch: Encodings) -> Any:
        return self._by_tree(batch, self._packed_rows)

    def _padded(self, batch: Encodings) -> Any:
        return self._by_tree(batch, self._padded_rows)

    def _by_tree(self, batch: Encodings, run: Callable[[ChoiceTree, Encodings], Any]) -> Any:
        """The rows of each tree by themselves, and then all in their order."""
        import torch

        which = np.array(batch.extra or [0] * len(batch), dtype=np.int64)
        if not len(which) or (which == which[0]).all():
            return run(self._trees[which[0] if len(which) else 0], batch)
        order = np.argsort(which, kind="stable")
        parts = [
            run(self._trees[at], batch.take(order[which[order] == at])) for at in np.unique(which)
        ]
        return torch.cat(parts)[torch.from_numpy(np.argsort(order)).to(self._device)]

    # -- one forward

    def _packed_rows(self, tree: ChoiceTree, batch: Encodings) -> Any:
        shared = to_share(self._known, batch)
        if shared and not np.array_equal(batch.ids[:shared], self._known):
            self._share(batch.ids[:shared])
        rows = without(batch, shared, tree.tokens)
        packing = tree_attention.TreePacking(
            runs_of(rows.offsets), tree.sees, tree.depths, self._shared if shared else {}
        )
        behind = batch.lengths - shared - 1  # the prompt's last token, in its row
        nodes = len(tree.tokens)
        places = np.arange(len(rows.ids)) - np.repeat(rows.offsets[:-1], rows.lengths) + shared
        inner = (rows.offsets[1:] - nodes)[:, None] + np.arange(nodes)
        places[inner] = (behind + shared)[:, None] + tree.depths
        wanted = np.concatenate([(rows.offsets[:-1] + behind)[:, None], inner], axis=1)
        logits = self._logits(self._packed_inputs(rows.ids, places, packing), wanted.reshape(-1))
        return self._likely(tree, logits.unflatten(0, (len(rows), 1 + nodes)))

    def _share(self, ids: np.ndarray) -> None:
        """Compute the start of rows once, and keep its keys and values."""
        kept: dict[int, tuple[Any, Any]] = {}
        none = np.zeros((0, 0), dtype=bool), np.zeros(0, dtype=np.int64)
        packing = tree_attention.TreePacking(((0, 1, len(ids)),), *none, kept=kept)
        places = np.arange(len(ids))
        self._logits(self._packed_inputs(ids, places, packing), np.array([len(ids) - 1]))
        self._known, self._shared = np.array(ids), kept

    def _packed_inputs(self, ids: np.ndarray, places: np.ndarray, packing: Any) -> dict[str, Any]:
        import torch

        return self._inputs(ids, None) | {
            "position_ids": self._to_device(places).unsqueeze(0),
            "packing": packing,
            "attention_mask": torch.empty((1, 1, 1, 1), device=self._device),
        }

    # -- one forward for each way through the tree

    def _padded_rows(self, tree: ChoiceTree, batch: Encodings) -> Any:
        import torch

        found: dict[int, Any] = {}
        for path in tree.paths():
            rows = without(batch, 0, tree.tokens[path - 1])
            width = int(rows.lengths.max(initial=0))
            at = (np.arange(len(rows)) * width + batch.lengths - 1)[:, None]
            wanted = at + np.arange(1 + len(path))
            logits = self._logits(self._padded_inputs(rows)[0], wanted.reshape(-1))
            for place, node in enumerate([0, *path.tolist()]):
                found.setdefault(node, logits.unflatten(0, wanted.shape)[:, place])
        return self._likely(tree, torch.stack([found[node] for node in sorted(found)], dim=1))

    # -- numbers

    def _logits(self, inputs: dict[str, Any], wanted: np.ndarray) -> Any:
        """Logits at these places of the flattened input, float32 `[places, vocabulary]`.

        Raises:
            ModelError: the model has no head that reads one state a token.
        """
        head = self._model.get_output_embeddings()
        if head is None:
            raise ModelError(
                f"a model of type {self._model.config.model_type} has no head for words"
            )
        # all else that the model does with logits (a scale, a cap) is its own
        hook = head.register_forward_pre_hook(partial(_pick, self._to_device(wanted)))
        try:
            logits = self._states(self._model, inputs).flatten(0, -2)
        finally:
            hook.remove()
        if len(logits) != len(wanted):
            raise ModelError(
                f"a model of type {self._model.config.model_type} gives {len(logits)} lines of "
                f"logits for {len(wanted)} tokens"
            )
        return logits.float()

    def _likely(self, tree: ChoiceTree, logits: Any) -> Any:
        """Logarithms of probabilities `[rows, choices]`, from logits `[rows, nodes, vocabulary]`."""
        import torch

        node, token = self._to_device(tree.node_of), self._to_device(tree.next_of)
        each = logits[:, node, token] - logits.logsumexp(dim=-1)[:, node]
        of = np.repeat(np.arange(len(tree.lengths)), tree.lengths)
        sums = torch.zeros(len(logits), len(tree.lengths), device=logits.device)
        return sums.index_add_(1, self._to_device(of), each)


def _pick(wanted: Any, head: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The states of some tokens, `[1, places, width]`, in place of all."""
    return (args[0].flatten(0, -2)[wanted].unsqueeze(0), *args[1:])
