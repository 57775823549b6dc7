"""TensorBoard event files of a training, kept under `tensorboard/` of its output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace.process.logs import get_logger
from headrace.storage.store import Store
from schemas.errors import HeadraceError, error_type_of
from schemas.names import output_layout

log = get_logger(__name__)

TAGS = {"loss": "train/loss", "learning_rate": "train/learning_rate"}


class ScalarWriter:
    """Writes numbers by step to a local event file, and copies it to the output; best effort.

    Copied at each evaluation and at the end, so that an object store gets few writes.
    """

    def __init__(self, store: Store, attempt: str, folder: Path) -> None:
        self._store, self._folder = store, folder
        from tensorboardX import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), filename_suffix=f".{attempt}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._copy()
        self._writer.close()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers; those of an evaluation begin with `validation_`."""
        is_evaluation = False
        for name, number in numbers.items():
            is_evaluation |= name.startswith("validation_")
            tag = TAGS.get(name) or name.replace("validation_", "validation/", 1)
            self._writer.add_scalar(tag, number, step)
        if is_evaluation:
            self._copy()

    def _copy(self) -> None:
        self._writer.flush()
        for path in self._folder.glob("events.out.tfevents.*"):
            try:
                self._store.replace(f"{output_layout.TENSORBOARD}{path.name}", path.read_bytes())
            except (HeadraceError, OSError) as error:
                log.warning("store.retried", error_type=error_type_of(error))
