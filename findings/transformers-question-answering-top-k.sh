#!/usr/bin/env bash
# The last question-answering pipeline of transformers, several answers and a short context.
#
# With `top_k` above 1 the pipeline of transformers 4.57.6 (5.0 has none) takes the best 2 x top_k +
# 10 of the pairs of a start and an end, which are tokens x tokens. Where both numbers are equal,
# such as 13 answers from a window of 6 tokens, it raises ValueError instead of an answer. One token
# or one answer more or less, and it answers.
#
# Prints each case that raises. Fails when another set of cases does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
env/bin/pip install --quiet --disable-pip-version-check transformers==4.57.6 2>/dev/null
cat > try.py <<'PYTHON'
import torch
import transformers
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizerFast, pipeline

torch.manual_seed(0)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "ann", "bob", "eve", "met", "and"]
open("vocab.txt", "w").write("\n".join(words) + "\n")
tokenizer = BertTokenizerFast("vocab.txt", model_max_length=64)
config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1,
                    num_attention_heads=2, intermediate_size=16, max_position_embeddings=64)
answer = pipeline("question-answering", model=BertForQuestionAnswering(config), tokenizer=tokenizer)
print("transformers", transformers.__version__)
for top_k in (3, 12, 13, 14):
    for context in ("ann", "ann met", "ann met bob", "ann met bob and"):
        try:
            answer(question="who", context=context, top_k=top_k)
        except ValueError as error:
            tokens = len(tokenizer("who", context)["input_ids"])
            print(f"top_k={top_k}, {tokens} tokens: ValueError: {error}")
PYTHON
env/bin/python try.py 2>/dev/null | grep top_k | tee out
test "$(cat out)" = 'top_k=13, 6 tokens: ValueError: kth(=36) out of bounds (36)'
echo 'as described'
