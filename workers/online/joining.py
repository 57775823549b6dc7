"""Encodings of several requests as one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.tasks.contract import Encodings
from headrace.tasks.fan_out import FanOut


def joined(pieces: Sequence[Encodings]) -> Encodings:
    """The rows of all pieces, in order; there is at least one piece."""
    if len(pieces) == 1:
        return pieces[0]
    starts = np.cumsum([0, *(int(piece.offsets[-1]) for piece in pieces)])
    offsets = [piece.offsets[1:] + start for piece, start in zip(pieces, starts, strict=False)]
    types = [piece.type_ids for piece in pieces if piece.type_ids is not None]
    extras = [piece.extra for piece in pieces if piece.extra is not None]
    fans = [piece.fan for piece in pieces if piece.fan is not None]
    return Encodings(
        ids=np.concatenate([piece.ids for piece in pieces]),
        offsets=np.concatenate([np.zeros(1, dtype=np.int64), *offsets]),
        truncated=np.concatenate([piece.truncated for piece in pieces]),
        type_ids=np.concatenate(types) if types else None,
        extra=[item for extra in extras for item in extra] if extras else None,
        fan=FanOut.joined(fans, [len(piece) for piece in pieces]) if fans else None,
    )
