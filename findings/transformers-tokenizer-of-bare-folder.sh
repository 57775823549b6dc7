#!/usr/bin/env bash
# AutoTokenizer.from_pretrained on a model's folder that has no tokenizer files, only config.json.
#
# transformers 5.23.0 with tokenizers 0.23.3 gives a BertTokenizer of 5 tokens, the special ones,
# without an error or a warning. Each word becomes [UNK], so a model scores every text alike.
# Expected: an error, as for a folder without weights.
#
# Fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3 2>/dev/null
cat > try.py <<'PYTHON'
import warnings

from transformers import AutoTokenizer, BertConfig

BertConfig(vocab_size=30522).save_pretrained("model")
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    tokenizer = AutoTokenizer.from_pretrained("model")
words = tokenizer.convert_ids_to_tokens(tokenizer("The film is good")["input_ids"])
print(type(tokenizer).__name__, len(tokenizer), words, f"{len(seen)} warnings")
PYTHON
HF_HUB_OFFLINE=1 env/bin/python try.py 2>/dev/null | tee out
grep -qF "BertTokenizer 5 ['[CLS]', '[UNK]', '[UNK]', '[UNK]', '[UNK]', '[SEP]'] 0 warnings" out
echo 'as described'
