"""The question answering pipeline, run by another Python: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    answers, out = sys.stdout, sys.stderr
    sys.stdout = out  # whatever else is printed
    folder, window = sys.argv[1], int(sys.argv[2])
    pipeline = transformers.pipeline("question-answering", model=folder, device="cpu")
    given: list[dict[str, str]] = []
    for line in sys.stdin:
        asked = json.loads(line)
        told: dict[str, object] = {}
        if "contexts" in asked:
            given = [{"question": asked["question"], "context": it} for it in asked["contexts"]]
        else:
            start = time.process_time()
            found = pipeline(given, batch_size=asked["batch"], max_seq_len=window, doc_stride=128)
            told["seconds"] = time.process_time() - start
            rows = found if isinstance(found, list) else [found]
            told["answers"] = [[it[k] for k in ("score", "answer", "start", "end")] for it in rows]
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
