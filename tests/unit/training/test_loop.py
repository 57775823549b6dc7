"""The loop: it learns, it goes on from a commit to the same weights, it stops when told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import Stopped
from schemas.names import output_layout
from schemas.records.training import Size
from tests.unit.tiny_models import TinyModels
from tests.unit.training.made_rows import MadeHost, made_rows, made_spec, made_texts
from workers.training.loop import Trained, train
from workers.training.model.make import load_base, make_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    models = TinyModels(tmp_path_factory.mktemp("models"))
    return models("bert", "SequenceClassification", num_labels=2, hidden_dropout_prob=0.1)


def run(
    tiny: str, made: MadeHost, fault: Any = lambda step: None, **changes: Any
) -> tuple[Trained, Any]:
    from transformers import set_seed

    spec = made_spec(**changes)
    set_seed(spec.seed)
    model, tokenizer = load_base(Path(tiny), spec)
    rows = made_rows(tokenizer, spec)
    return train(model, rows, (0, 0), spec, made.host(fault)), model


def weights(model: Any) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in model.state_dict().values()])


def test_it_learns_what_the_rows_say(tmp_path: Path) -> None:
    from transformers import set_seed

    made = MadeHost(tmp_path, "a" * 16)
    size = Size(layers=1, width=32, vocabulary=200)
    spec = made_spec(epochs=6, learning_rate=5e-3, batch_tokens=512, size=size, max_length=64)
    set_seed(0)
    model, tokenizer = make_model(made_texts(400)[0], spec)
    found = train(model, made_rows(tokenizer, spec, 400), (0, 0), spec, made.host())
    scores = {
        h["step"]: h["validation_macro_f1"] for h in found.history if "validation_macro_f1" in h
    }
    assert scores[found.best_step] == max(scores.values()) > 0.9
    assert made.scalars
    assert made.shown == found.steps


@pytest.mark.parametrize("after", [1, 7, 13])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    tiny: str, tmp_path: Path, after: int
) -> None:
    whole, model = run(tiny, MadeHost(tmp_path / "whole", "a" * 16))
    with pytest.raises(Stopped):
        run(tiny, MadeHost(tmp_path / "cut", "b" * 16, stop_after=after))
    resumed, again = run(tiny, MadeHost(tmp_path / "cut", "c" * 16))
    assert resumed.resumed_from == after
    assert resumed.steps == whole.steps
    assert np.array_equal(weights(model), weights(again))
    assert resumed.history == whole.history


def test_a_checkpoint_without_its_commit_is_never_taken(tiny: str, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(step: str) -> None:
        if step == "checkpoint_files":
            raise Killed

    _, model = run(tiny, MadeHost(tmp_path / "whole", "a" * 16))
    with pytest.raises(Killed):
        run(tiny, MadeHost(tmp_path / "cut", "b" * 16), kill)
    resumed, again = run(tiny, MadeHost(tmp_path / "cut", "c" * 16))
    assert resumed.resumed_from == 0
    assert np.array_equal(weights(model), weights(again))


def test_a_checkpoint_whose_file_was_cut_is_passed_over(tiny: str, tmp_path: Path) -> None:
    _, model = run(tiny, MadeHost(tmp_path / "whole", "a" * 16))
    for attempt, after in (("b" * 16, 3), ("c" * 16, 4)):
        with pytest.raises(Stopped):
            run(tiny, MadeHost(tmp_path / "cut", attempt, stop_after=after))
    made = MadeHost(tmp_path / "cut", "d" * 16)
    newest = tmp_path / "cut/run" / output_layout.checkpoint_folder("c" * 16, 7) / "optimizer.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    resumed, again = run(tiny, made)
    assert resumed.resumed_from == 3
    assert np.array_equal(weights(model), weights(again))


def test_no_gain_for_a_while_ends_it(tiny: str, tmp_path: Path) -> None:
    found, _ = run(
        tiny, MadeHost(tmp_path, "a" * 16), epochs=9, learning_rate=1e-9, early_stopping=2
    )
    assert found.stopped_early
    assert found.epochs == 3.0
    assert found.best_step < found.steps


def test_a_resume_after_the_end_trains_no_more(tiny: str, tmp_path: Path) -> None:
    changes = {"epochs": 9, "learning_rate": 1e-9, "early_stopping": 2}
    whole, model = run(tiny, MadeHost(tmp_path, "a" * 16), **changes)
    again, same = run(tiny, MadeHost(tmp_path, "b" * 16), **changes)
    assert (again.steps, again.best_step, again.stopped_early) == (
        whole.steps,
        whole.best_step,
        True,
    )
    assert again.tokens == 0
    assert np.array_equal(weights(model), weights(same))


def test_no_committed_file_is_a_pickle_of_settings(tiny: str, tmp_path: Path) -> None:
    made = MadeHost(tmp_path, "a" * 16)
    run(tiny, made)
    names = [Path(info.name).name for info in made.store.list(output_layout.CHECKPOINTS)]
    assert "model.safetensors" in names
    assert "training_args.bin" not in names
