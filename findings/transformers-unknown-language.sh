#!/usr/bin/env bash
# transformers and a language that a tokenizer of many languages does not know.
#
# The tokenizers of NLLB and mBART-50 take the language of a text as `src_lang`. transformers 5.23.0
# accepts any name: one that is no language becomes <unk>, and one that happens to be a word of the
# vocabulary becomes that word ("de" for NLLB's "deu_Latn"). The text is then marked with it, without
# an error or a warning.
#
# Fails when one of them behaves in another way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > try.py <<'PYTHON'
from transformers import MBart50Tokenizer, NllbTokenizer

words = ["▁a", "▁b", "de"]
nllb = NllbTokenizer(
    vocab={it: at for at, it in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "d", "e", "de"])},
    merges=[("d", "e")],
)
mbart = MBart50Tokenizer(vocab=[(it, 0.0) for it in ("<unk>", "<s>", "</s>", *words)])
for name, tokenizer, known in (("NLLB", nllb, "deu_Latn"), ("mBART-50", mbart, "de_DE")):
    for language in (known, "klingon", "de"):
        tokenizer.src_lang = language
        first = tokenizer(["a b"])["input_ids"][0][0]
        print(name, language, "→", tokenizer.convert_ids_to_tokens(first))
PYTHON
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check transformers==5.23.0 2>/dev/null
env/bin/python try.py 2>/dev/null | tee out
for line in 'NLLB deu_Latn → deu_Latn' 'NLLB klingon → <unk>' 'NLLB de → de' \
    'mBART-50 de_DE → de_DE' 'mBART-50 klingon → <unk>' 'mBART-50 de → de'; do
    grep -qxF "$line" out
done
echo 'as described'
