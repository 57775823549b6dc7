"""How often `headrace drift` cries wolf, and how much of a drift it finds: made-up nights, counted.

    python -m benchmarks.growth.drift_nights --seeds 50

For each size of a night: alarms in 30 nights without change, for as many references as seeds. For
each planted drift and its strength: the share of nights in which it was found.
"""

from __future__ import annotations

import argparse
import json

from producers.quality.drift import drift
from tests.unit.quality.nights import World, night

SIZES = (200, 2_000)
NIGHTS = 30
PLANTED = {
    "labels": [World(positive=p) for p in (0.65, 0.7, 0.75)],
    "new tokens": [World(new=share) for share in (0.02, 0.05, 0.1, 0.2)],
    "scripts": [World(foreign=share) for share in (0.01, 0.02, 0.05)],
    "lengths": [World(longer=times) for times in (1.1, 1.2, 1.3)],
    "scores": [World(confidence=c) for c in (7.0, 6.0, 5.0)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    for rows in SIZES:
        alarms = []
        for seed in range(seeds):
            reference = night(seed, rows)
            first = 10_000 + seed * NIGHTS
            alarms.append(
                sum(
                    bool(drift(reference, night(first + day, rows)).drifted)
                    for day in range(NIGHTS)
                )
            )
        print(json.dumps({
            "rows": rows, "references": seeds, "nights": seeds * NIGHTS, "alarms": sum(alarms),
            "most_in_30": max(alarms),
        }))  # fmt: skip
        for feature, worlds in PLANTED.items():
            for world in worlds:
                found = [
                    feature
                    in {f.name for f in drift(night(s, rows), night(500 + s, rows, world)).drifted}
                    for s in range(seeds)
                ]
                print(json.dumps({
                    "rows": rows, "planted": str(world), "feature": feature,
                    "found": sum(found) / seeds,
                }))  # fmt: skip


if __name__ == "__main__":
    main()
