#!/usr/bin/env bash
# fastokens and a byte-level BPE tokenizer that ends rows as RoBERTa does.
#
# fastokens 0.3.5 offers itself as a faster backend for transformers' BPE tokenizers. The
# tokenizer.json of RoBERTa, and of what follows it, has the post-processor "RobertaProcessing":
# fastokens raises ValueError and loads nothing. The same special tokens as "TemplateProcessing",
# for a single text the same ids, load and give the ids of tokenizers 0.23.3.
#
# Fails when one of them behaves in another way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check fastokens==0.3.5 tokenizers==0.23.3 2>/dev/null
cat > try.py <<'PYTHON'
import fastokens
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

special = ["<s>", "</s>"]
usual = Tokenizer(models.BPE())
usual.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
usual.train_from_iterator(["the weather is fine today"] * 9, trainers.BpeTrainer(
    vocab_size=300, special_tokens=special, show_progress=False,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
ways = {
    "RobertaProcessing": processors.RobertaProcessing(("</s>", 1), ("<s>", 0)),
    "TemplateProcessing": processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]),
}
for name, way in ways.items():
    usual.post_processor = way
    try:
        faster = fastokens.Tokenizer.from_json_str(usual.to_str())
    except ValueError as error:
        print(name, "ValueError:", error)
        continue
    text = "fine weather today"
    equal = faster.encode(text, add_special_tokens=True).ids == usual.encode(text).ids
    print(name, "ids are equal" if equal else "ids differ")
PYTHON
env/bin/python try.py | tee out
grep -qF 'RobertaProcessing ValueError: post-processor error: unsupported post-processor type: RobertaProcessing' out
grep -qF 'TemplateProcessing ids are equal' out
echo 'as described'
