"""Estimates the accuracy of a night from its scores, without gold labels of that night. Pure.

Assumption: rows with one score are right as often as such rows of the reference. That holds while
texts and labels shift; it does not where the same texts should now get other labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from headrace.profiles.profile import SUM_SCALE, Profile


def expected_accuracy(profile: Profile, reference: Profile) -> float | None:
    """The mean probability that a row's label is right; None if there are no scores in 0 to 1.

    Where the reference has gold labels, a score counts as the share of right rows among those of
    the reference with that score; else it is used as a probability.

    Source: Guillory et al., Predicting with confidence on unseen distributions, 2021
    """
    rows = sum(profile.labels.values())
    scored = sum(sum(bins.values()) for bins in profile.scores.values())
    if not rows or scored != rows or profile.items:
        return None
    if not reference.judged:
        return sum(profile.score_sums.values()) / SUM_SCALE / rows
    chances = calibrated(reference.judged, reference.right)
    at = np.array([b for bins in profile.scores.values() for b in bins])
    counts = np.array([n for bins in profile.scores.values() for n in bins.values()])
    known = np.array(sorted(chances))
    values = np.array([chances[b] for b in known.tolist()])
    return float(np.interp(at, known, values) @ counts / rows)


def calibrated(judged: Mapping[int, int], right: Mapping[int, int]) -> dict[int, float]:
    """Share of right rows by bin of the score, made to rise with the score.

    Source: Ayer et al., An empirical distribution function for sampling with incomplete
    information, 1955 (pool adjacent violators)
    """
    pools: list[tuple[list[int], int, int]] = []
    for at in sorted(judged):
        pools.append(([at], judged[at], right.get(at, 0)))
        while len(pools) > 1 and pools[-2][2] * pools[-1][1] >= pools[-1][2] * pools[-2][1]:
            last, before = pools.pop(), pools.pop()
            pools.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    return {at: hits / rows if rows else math.nan for bins, rows, hits in pools for at in bins}
