"""A generating engine without a model: each answer is the prompt's text, reversed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workers.engines.generating.base import Answer, GenerationRequest, Prompt, Watch


class EchoEngine:
    """Keeps the port: one answer a prompt, `check` between two, rows named before they are used."""

    def load(self, request: GenerationRequest) -> None:
        self.request = request

    def generate(
        self, prompts: Sequence[Prompt], watch: Watch, budget_tokens: int
    ) -> Iterator[Answer]:
        for prompt in prompts:
            watch.check()
            watch.holding([prompt.row])
            if "raise" in prompt.text:
                yield Answer(prompt.row, error=ValueError("asked to raise"))
                continue
            watch.stepped(rows=1, tokens=len(prompt.ids))
            text = prompt.text[::-1][: prompt.max_new_tokens]
            yield Answer(prompt.row, text, "stop", len(text), -1.0)
        watch.holding(())

    def default_batch_tokens(self) -> int:
        return 1024

    def is_out_of_memory(self, error: BaseException) -> bool:
        return False

    def is_device_lost(self, error: BaseException) -> bool:
        return False
