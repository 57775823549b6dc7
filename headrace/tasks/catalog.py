"""The tasks that are known, and what each needs: one table for both sides."""

from __future__ import annotations

from importlib.metadata import entry_points

PARAMS: dict[str, tuple[str, ...]] = {
    "text-classification": ("scores", "multi_label"),
    "token-classification": ("aggregation",),
    "feature-extraction": ("pooling", "normalize"),
}
"""Settings that decide a task's output; no other task's stand in a job."""


PAIRED_TASKS = frozenset({"text-classification", "fake"})


def task_names() -> list[str]:
    """The tasks that are installed, by their entry points; none is imported."""
    return sorted(point.name for point in entry_points(group="headrace.tasks"))


HEADS: dict[str, str] = {
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
}
"""How the name of an architecture ends that has the head a task needs; other tasks take any."""


WITHOUT_MODEL = frozenset({"fake"})
"""Tasks that need no model."""
