"""Device errors in an engine that generates: which rows fail, and which run again."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.errors import DeviceLost, OutOfMemory
from workers.devices import device
from workers.engines.generating.base import Answer, Watch
from workers.engines.generating.schedule import Schedule


class FailsByRow(device.DeviceErrors):
    """The part of an engine that decides which rows an error belongs to."""

    _most_rows: int

    def failed(self, error: Exception, schedule: Schedule, watch: Watch) -> Iterator[Answer]:
        """Yield an error for each row that cannot run; the others run again in smaller batches.

        Raises:
            DeviceLost: the device is gone, and the process with it.
        """
        if self.is_device_lost(error):
            raise DeviceLost(f"{type(error).__name__}: {error}"[:500]) from error
        is_full, tokens = self.is_out_of_memory(error), schedule.tokens()
        if is_full:
            watch.out_of_memory(tokens)
            device.free_what_is_kept(self._device)
            error = OutOfMemory(
                f"the device has no memory for this one row of up to {tokens} tokens"
            )
        for prompt in schedule.fail(out_of_memory=is_full):
            yield Answer(prompt.row, error=error)
        if is_full:
            self._most_rows = schedule.most_rows
