"""The profile of an output, with the gold labels of its rows where there are some."""

from __future__ import annotations

from headrace.output.job_record import require_job
from headrace.profiles.profile import Profile
from headrace.profiles.store import read_job_profile
from headrace.settings import Settings
from headrace.storage.open import open_store
from producers.quality.gold import Gold, evaluate
from schemas.errors import ConfigError


def profile_of_output(output: str, settings: Settings, label_column: str | None = None) -> Profile:
    """What the rows of an output look like; with a carried gold label, which scores were right.

    Raises:
        JobNotFound: the output holds no job.
        ConfigError: it has no rows yet; see also `evaluate`.
        StorageError: the store fails, or a part cannot be read.
    """
    store = open_store(output, settings)
    job = require_job(store)
    profile = read_job_profile(store, job)
    if not profile.rows:
        raise ConfigError(f"{store.uri} has no rows yet: there is nothing to compare")
    if label_column is not None:
        found = evaluate(store, Gold(label_column))
        profile = profile.model_copy(update={"judged": found.judged, "right": found.right})
    return profile
