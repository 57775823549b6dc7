"""Creators that race for parts of a store: which creators won by the reply, and whose part is there.

To try a server by hand, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set:
python -m tests.store_races s3://bucket/prefix http://host:port [rounds]
"""

from __future__ import annotations

import sys
from functools import partial

from headrace.storage.probe import RACERS, probe_store, race
from headrace.storage.s3 import S3Options, S3Store
from headrace.storage.store import Store
from schemas.errors import HeadraceError


def race_for_parts(store: Store, rounds: int) -> list[str]:
    """One line for each round in which not exactly one creator won and left its part."""
    wrong = []
    for number in range(rounds):
        name = f"data/part-{number:05}"
        contents = [b"round %d, racer %d" % (number, racer) for racer in range(RACERS)]
        told = race([partial(store.create, name, content) for content in contents])
        winners = [c for c, won in zip(contents, told, strict=True) if won]
        if winners != [store.read(name)]:
            wrong.append(f"{name}: {len(winners)} of {RACERS} were told that they won")
        store.delete(name)
    return wrong


def main(uri: str, endpoint: str, rounds: int = 200) -> int:
    """Race by PUT and by parts; returns the exit code."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    store = S3Store(bucket, prefix, S3Options(endpoint))
    try:
        probe_store(store)
        print("probe: passed")
    except HeadraceError as error:
        print(f"probe: {error}")
    print(f"uploads in parts: {'trusted' if store.supports_multipart else 'not used'}")
    for way, racing in (("PUT", store), ("parts", store.by_parts())):
        wrong = race_for_parts(racing, rounds)
        print(f"{way}: {rounds - len(wrong)} of {rounds} rounds had one winner; {wrong[:3]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
