"""How often the demo's predictions agree with the labels that the generator wrote."""

from __future__ import annotations

from pathlib import Path


def accuracy(output: Path, corpus: Path) -> tuple[int, int]:
    """Rows right, and rows scored: an output's `predicted_label` against the corpus's `label`.

    Rows are matched by `id`; error rows have no prediction and do not count as scored. `output`
    is the folder of a job, so that its parts lie in `output/data`.
    """
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    predicted = ds.dataset(output / "data").to_table(["id", "predicted_label", "status"])
    predicted = predicted.filter(pc.equal(predicted["status"].cast("string"), "ok"))
    both = predicted.join(pq.read_table(corpus, columns=["id", "label"]), "id", join_type="inner")
    right = pc.sum(pc.equal(both["predicted_label"].cast("string"), both["label"])).as_py() or 0
    return right, both.num_rows
