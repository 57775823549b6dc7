#!/usr/bin/env bash
# CTranslate2's converter and a T5 whose output layer is not its input embedding.
#
# T5 1.1, Flan-T5 and their like have `tie_word_embeddings: false`, and then the decoder's outputs
# are not scaled before the last layer. transformers 5.23.0 keeps that in `scale_decoder_outputs`
# and sets `tie_word_embeddings` to true for every T5 that it loads. The converter of CTranslate2
# 4.8.5 asks `tie_word_embeddings`, and so scales the outputs of all of them. Nothing is said: the
# model converts, greedy text stays as it was, and the probabilities are those of another
# temperature, so that beams and scores differ.
#
# Prints, for a tied and an untied model, whether both give the same log probabilities of three
# tokens. Fails when that, or what the loaded configuration says, changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
env/bin/pip install --quiet --disable-pip-version-check ctranslate2==4.8.5 transformers==5.23.0 2>/dev/null
cat > try.py <<'PYTHON'
import ctranslate2
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

torch.manual_seed(0)
words = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(29))]
for tied in (True, False):
    config = transformers.T5Config(
        vocab_size=len(words), d_model=64, d_kv=16, d_ff=64, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, dropout_rate=0.0,
        tie_word_embeddings=tied,
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.5)
    folder = f"model-{tied}"
    model.save_pretrained(folder)
    rule = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    rule.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=rule, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    ctranslate2.converters.TransformersConverter(folder).convert(f"converted-{tied}", force=True)

    source, target = [5, 9, 12, 1], [7, 20, 3]
    loaded = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = loaded(
            input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[0, *target]])
        ).logits[0]
    right = logits.log_softmax(-1)[range(3), target]
    converted = ctranslate2.Translator(f"converted-{tied}", device="cpu", compute_type="float32")
    found = converted.score_batch(
        [[words[i] for i in source]], [[words[i] for i in target]]
    )[0].log_probs[:3]
    most = max(abs(a - b) for a, b in zip(right.tolist(), found))
    print("tied:" if tied else "untied:", "log probabilities are",
          "equal" if most < 1e-3 else "different", "| config.tie_word_embeddings:",
          loaded.config.tie_word_embeddings, "| scale_decoder_outputs:",
          getattr(loaded.config, "scale_decoder_outputs", None))
PYTHON
env/bin/python try.py 2>/dev/null | tee out
grep -qF 'tied: log probabilities are equal | config.tie_word_embeddings: True | scale_decoder_outputs: True' out
grep -qF 'untied: log probabilities are different | config.tie_word_embeddings: True | scale_decoder_outputs: False' out
echo 'as described'
