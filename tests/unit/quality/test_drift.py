"""Nights from one corpus show no drift, a planted drift is found the same night."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from scipy.spatial.distance import jensenshannon

from headrace.profiles.measure import add_vectors
from headrace.profiles.profile import Profile, merge
from producers.commands.quality.drift import read_floors
from producers.quality.distance import distance, halved_distance, joined_bins, psi
from producers.quality.drift import FLOOR, FLOORS, drift, usual_new_share
from producers.quality.expected_accuracy import calibrated, expected_accuracy
from producers.terminal.drift import Shown, as_json, render_drift
from schemas.errors import ConfigError
from tests.unit.quality.nights import World, night

PLANTED = {
    "label shift": (World(positive=0.75), "labels"),
    "new words": (World(new=0.2), "new tokens"),
    "other language": (World(foreign=0.1), "scripts"),
    "longer texts": (World(longer=1.3), "lengths"),
}


@pytest.fixture(scope="module")
def reference() -> Profile:
    return night(0, rows=5_000)


@pytest.mark.parametrize("seed", [1, 2])
def test_thirty_nights_without_change_have_at_most_one_alarm(reference: Profile, seed: int) -> None:
    alarms = [
        [f.name for f in drift(reference, night(1_000 * seed + day)).drifted] for day in range(30)
    ]
    assert sum(map(bool, alarms)) <= 1, alarms


@pytest.mark.parametrize("rows", [60, 300])
def test_small_nights_have_no_more_alarms_than_large_ones(rows: int) -> None:
    small = night(5, rows=rows)
    alarms = [drift(small, night(2_000 + day, rows=rows)).drifted for day in range(20)]
    assert sum(map(bool, alarms)) <= 1


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_planted_drift_is_found_the_same_night(
    reference: Profile, planted: str, seed: int
) -> None:
    world, feature = PLANTED[planted]
    found = drift(reference, night(seed, world=world))
    assert feature in [f.name for f in found.drifted]


def test_what_the_nights_do_anyway_is_no_drift(reference: Profile) -> None:
    swinging = [night(60 + day, world=World(positive=0.5 + 0.25 * (day % 2))) for day in range(7)]
    sunday = night(80, world=World(positive=0.75))
    assert "labels" in [f.name for f in drift(reference, sunday).drifted]
    assert drift(reference, sunday, swinging).drifted == ()
    # one odd night does not raise the limit, and a larger step is still seen
    odd = [*(night(90 + day) for day in range(6)), sunday]
    assert "labels" in [f.name for f in drift(reference, sunday, odd).drifted]
    far = night(99, world=World(positive=0.97))
    assert "labels" in [f.name for f in drift(reference, far, swinging).drifted]


def test_a_person_sets_the_floor(reference: Profile) -> None:
    now = night(3, world=World(positive=0.75))
    assert drift(reference, now, floor=0.5).drifted == ()
    assert drift(reference, now, floors={"labels": 0.5}).drifted == ()
    limits = {f.name: f.limit for f in drift(reference, now).features}
    assert limits.pop("tokens") == FLOORS["tokens"]
    assert set(limits.values()) == {FLOOR}


def test_the_distance_is_that_of_scipy_without_the_part_of_chance() -> None:
    before, after = np.array([500, 300, 200, 0]), np.array([200, 300, 400, 100])
    found = distance(before * 1_000, after * 1_000)
    exact = jensenshannon(before, after, base=2)
    assert found.divergence == pytest.approx(exact**2)
    assert found.value == pytest.approx(exact, abs=1e-4)
    assert found.psi == pytest.approx(psi(before, after))
    assert distance(before, before).value == 0.0
    assert distance(before, np.zeros(4, np.int64)).value == 0.0


@pytest.mark.parametrize(("cells", "rows"), [(2, 100), (20, 200), (200, 1_000)])
def test_the_mean_distance_of_two_draws_from_one_table_is_taken_out(cells: int, rows: int) -> None:
    draw = np.random.default_rng(cells)
    shares = draw.dirichlet(np.ones(cells))
    found = [
        distance(draw.multinomial(rows, shares), draw.multinomial(3 * rows, shares), seed=k)
        for k in range(60)
    ]
    left = np.array([d.divergence - d.bias for d in found])
    assert abs(left.mean()) < 4 * left.std() / np.sqrt(60)
    assert sum(d.is_beyond_chance for d in found) == 0


def test_words_that_cluster_in_texts_are_no_drift() -> None:
    """A text of one word, a hundred times: a hundred counts that are one observation."""
    draw = np.random.default_rng(4)

    def clustered() -> np.ndarray:
        words = draw.integers(0, 50, 400)
        halves = draw.integers(0, 2, 400)
        return np.stack([np.bincount(words[halves == h], minlength=50) * 100 for h in (0, 1)])

    taken_apart, by_rows = [], []
    for _ in range(30):
        one, two = clustered(), clustered()
        taken_apart.append(halved_distance(one, two).value)
        by_rows.append(distance(one.sum(axis=0), two.sum(axis=0)).value)
    assert np.median(taken_apart) < 0.1 < np.median(by_rows)


def test_bins_are_joined_and_one_that_all_rows_are_in_stays_apart() -> None:
    before, after = joined_bins(dict.fromkeys(range(100), 10), dict.fromkeys(range(100), 10))
    assert len(before) == 20
    assert before.sum() == after.sum() == 1_000
    assert distance(*joined_bins({10: 500}, {20: 500})).value > 0.9
    assert distance(*joined_bins({10: 500, 1_000: 500}, {500: 1_000})).value > 0.9
    assert [len(t) for t in joined_bins({}, {})] == [0, 0]


@pytest.mark.parametrize("name", ["tokens", "new tokens"])
def test_the_words_that_carry_the_distance_are_named(reference: Profile, name: str) -> None:
    found = drift(reference, night(4, world=World(new=0.3)))
    (feature,) = [f for f in found.features if f.name == name]
    assert feature.is_drift
    words = {m.token: "zorb" for m in feature.moved if m.token is not None}
    assert len(words) == 15
    assert min(words) >= 1_500
    assert all(m.after > m.before == 0.0 for m in feature.moved)
    shown = Shown(found, "now", "then", words=words)
    console = Console(file=io.StringIO(), width=120)
    console.print(render_drift(shown))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "zorb" in text
    assert "drift: new tokens, tokens" in text
    record = json.loads(json.dumps(as_json(shown)))
    assert record["drifted"] == ["new tokens", "tokens"]
    assert record["features"][name]["moved"][0]["name"] == "zorb"
    assert "p_value" not in json.dumps(record)


@pytest.mark.parametrize("rows", [200, 1_000, 4_000])
def test_new_words_of_an_ordinary_night_are_expected(rows: int) -> None:
    before, after = night(21, rows).token_counts, night(22, 2_000).token_counts
    assert before is not None
    assert after is not None
    known = set(before.ids)
    counts = dict(
        zip(after.ids, map(sum, zip(after.first, after.second, strict=True)), strict=True)
    )
    new = sum(n for token, n in counts.items() if token not in known) / sum(counts.values())
    table = np.zeros((2, before.ids[-1] + 1), dtype=np.int64)
    table[0, before.ids], table[1, before.ids] = before.first, before.second
    assert usual_new_share(table) == pytest.approx(new, rel=0.2, abs=0.002)


def test_counts_of_another_vocabulary_are_not_compared(reference: Profile) -> None:
    now = night(7)
    assert now.token_counts is not None
    other = now.token_counts.model_copy(update={"vocabulary": "another"})
    found = drift(reference, now.model_copy(update={"token_counts": other}))
    assert not {"tokens", "new tokens", "lengths", "unknown"} & {f.name for f in found.features}
    assert "labels" in {f.name for f in found.features}
    assert found.notes


def test_embeddings_that_moved_are_found() -> None:
    draw = np.random.default_rng(6)

    def vectors(shift: float) -> Profile:
        values = draw.normal(size=(800, 32))
        values[:, 0] += shift
        column = pa.array(list(values.astype(np.float32)), pa.list_(pa.float32()))
        return Profile(rows=800, ok=800, vectors=add_vectors(None, column))

    before = vectors(0.0)
    assert drift(before, vectors(0.0)).drifted == ()
    assert [f.name for f in drift(before, vectors(3.0)).drifted] == ["vectors"]


# -- expected accuracy


def graded(hits: dict[int, tuple[int, int]]) -> dict[str, Any]:
    return {
        "judged": {b: n for b, (n, _) in hits.items()},
        "right": {b: k for b, (_, k) in hits.items()},
    }


def test_a_score_counts_as_the_share_of_right_rows_with_that_score() -> None:
    reference = Profile(**graded({60: (100, 50), 80: (100, 90)}))
    night_ = Profile(labels={"x": 10}, scores={"x": {60: 5, 80: 5}}, score_sums={"x": 0})
    assert expected_accuracy(night_, reference) == pytest.approx(0.7)
    between = Profile(labels={"x": 1}, scores={"x": {70: 1}})
    assert expected_accuracy(between, reference) == pytest.approx(0.7)
    assert expected_accuracy(Profile(labels={"x": 1}, items={1: 1}), reference) is None


def test_shares_of_right_rows_rise_with_the_score() -> None:
    found = calibrated({1: 10, 2: 10, 3: 10}, {1: 5, 2: 3, 3: 9})
    assert found == {1: 0.4, 2: 0.4, 3: 0.9}


def test_expected_accuracy_follows_a_loss_that_the_scores_show() -> None:
    draw = np.random.default_rng(8)

    def rows(confidence: float) -> tuple[Profile, float]:
        scores = draw.beta(confidence, 1.0, 20_000)
        right = draw.random(20_000) < scores**2  # the model is too sure of itself
        from headrace.profiles.bins import counted, score_bins

        bins = score_bins(scores)
        made = Profile(
            labels={"x": 20_000}, scores={"x": counted(bins)},
            score_sums={"x": int(scores.sum() * (1 << 30))},
            judged=counted(bins), right=counted(bins[right]),
        )  # fmt: skip
        return made, float(right.mean())

    before, _ = rows(9.0)
    now, true = rows(4.0)
    assert expected_accuracy(now, before) == pytest.approx(true, abs=0.01)
    at_its_word = expected_accuracy(now, before.model_copy(update={"judged": {}}))
    assert at_its_word is not None
    assert at_its_word - true > 0.1
    assert drift(before, now).is_calibrated


@pytest.mark.parametrize("text", ["1.5", "x", "words=0.1", "labels=", "-1"])
def test_a_floor_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--floor"):
        read_floors(text)


def test_floors_are_read() -> None:
    assert read_floors(None) == (FLOORS, FLOOR)
    assert read_floors("labels=0.2") == ({"labels": 0.2, **FLOORS}, FLOOR)
    assert read_floors("0.2,tokens=0.3, bytes per token=0.05") == (
        {"tokens": 0.3, "bytes per token": 0.05}, 0.2,
    )  # fmt: skip
    assert merge([]).rows == 0
