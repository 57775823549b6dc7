"""The model that is served now, and how it follows an alias of the registry without a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from headrace.models.named import version_of
from headrace.models.registry import parse_address
from headrace.process.logs import get_logger
from headrace.settings import Settings
from schemas.errors import error_type_of
from schemas.records.model_version import SCHEME, ModelVersion
from workers.online.batcher import Batcher
from workers.online.model import Answer, OnlineModel, Prepared, load_online

log = get_logger(__name__)

LOOK_S = 5.0
"""Chosen: an alias that was moved is followed within seconds; a look reads two small objects."""
WAITING_BATCHES = 16
"""Batches that may wait. Chosen: what comes later is answered 429 at once."""


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model, its queue, and its version if the registry named it."""

    model: OnlineModel
    batcher: Batcher[Prepared, list[Answer]]
    version: ModelVersion | None = None

    @property
    def number(self) -> int | None:
        return None if self.version is None else self.version.version


class Door:
    """What is served now. A request takes `now` once, and is answered by that model."""

    def __init__(self, first: Served) -> None:
        self.now = first

    def change(self, to: Served) -> None:
        """Serve another model from now on; the one before answers what waits for it, then ends."""
        before, self.now = self.now, to
        before.batcher.close()

    def close(self) -> None:
        self.now.batcher.close()


def open_served(settings: Settings, version: ModelVersion | None) -> Served:
    """The model of the settings, loaded, with its queue running; `version` is what an address names.

    Raises:
        ConfigError, ModelError: see `load_online`.
    """
    model = load_online(settings, version)
    batcher: Batcher[Prepared, list[Answer]] = Batcher(
        model.compute, lambda: model.budget_tokens, WAITING_BATCHES * model.budget_tokens
    )
    batcher.start()
    return Served(model, batcher, version)


class Follower:
    """A thread that looks where the alias points, and loads what it points to now."""

    def __init__(
        self,
        door: Door,
        settings: Settings,
        open_model: Callable[[Settings, ModelVersion | None], Served] = open_served,
        look_s: float = LOOK_S,
    ) -> None:
        self._door = door
        self._settings = settings
        self._open = open_model
        self._look_s = look_s
        self._refused: ModelVersion | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-alias", daemon=True)

    def start(self) -> None:
        """Begin to look, where the model is named by an alias; other names never change."""
        name = self._settings.model or ""
        if name.startswith(SCHEME) and parse_address(name).alias is not None:
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> bool:
        """Follow the alias if it has moved; returns whether another model is served now.

        A version that cannot be loaded is logged and not tried again until the alias moves; the one
        before answers on.
        """
        found = version_of(self._settings)
        if found is None or found in (self._door.now.version, self._refused):
            return False
        try:
            self._door.change(self._open(self._settings, found))
        except Exception as error:  # whatever a model does while it loads, the old one answers on
            self._refused = found
            log.warning(
                "online.version_refused", version=found.version, error_type=error_type_of(error),
                reason=str(error),
            )  # fmt: skip
            return False
        self._refused = None
        log.info("online.version_served", version=found.version)
        return True

    def _run(self) -> None:
        told = ""
        while not self._stop.wait(self._look_s):
            try:
                self.look()
            except Exception as error:  # the store is away, or the version has no meaning here
                why = f"{error_type_of(error)}: {error}"
                if why != told:
                    log.warning("online.alias_unread", reason=why)
                told = why
