"""How long a store may fail before a job is given up. Pure; time comes in as an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StorePatience:
    """Counts the time for which a store has failed and no more rows were scored than before."""

    limit_s: float
    _since: float | None = None
    _rows: int = -1

    def is_over(self, *, fails: bool, rows: int, now: float) -> bool:
        """Whether the store has failed for so long, with the same rows done; `now` on any one clock."""
        if not fails or rows > self._rows:
            self._since = now if fails else None
            self._rows = max(rows, self._rows)
        elif self._since is None:
            self._since = now
        return self._since is not None and now - self._since >= self.limit_s
