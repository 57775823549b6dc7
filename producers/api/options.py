"""The keyword options of `headrace.run` and `headrace.submit`: the settings of a job, typed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from headrace.setting_fields import Dtype
from headrace.settings import Settings, load_settings
from headrace.tasks.catalog import BUILT_IN
from schemas.errors import ConfigError

NOT_OFFERED = {"on_finish": "a program sees the end itself, as the value that it gets"}
"""Options of the commands that the API leaves out, and why."""


class JobOptions(TypedDict, total=False):
    """Each is the command's option of the same name; see the page of commands."""

    broker_url: str
    queue_url: str
    registry: str
    model_registry: str
    vllm_python: str
    queue: str
    allowed_prefixes: Sequence[str]
    task: str
    model: str
    revision: str
    text_column: str
    text: str
    text_pair_column: str
    id_column: str
    columns: Sequence[str]
    max_length: int
    dtype: Dtype
    engine: str
    precision_floor: float
    precision_rows: int
    accept_precision: bool
    batch_tokens: int
    chunk_rows: int
    chunk_bytes: int
    date: str
    literal: bool
    pattern: str
    allow_empty: bool
    limit: int
    reuse: str
    task_params: Mapping[str, Any]
    trust_remote_code: bool
    allow_pickle: bool
    error_threshold: float
    priority: int
    wait_for: str
    give_up_after: str
    max_attempts: int
    price_per_hour: float
    deadline: str
    completion_window: str
    workers: int
    threads: int
    device: str
    s3_endpoint_url: str
    s3_region: str
    s3_path_style: bool
    s3_sse: Literal["AES256", "aws:kms"]
    s3_requester_pays: bool
    s3_sse_kms_key_id: str
    scores: bool
    multi_label: bool
    aggregation: str
    pooling: str
    normalize: bool
    prompt_name: str
    truncate_dim: int
    candidate_labels: str
    labels_column: str
    hypothesis_template: str
    threshold: float
    max_active_dims: int
    question: str
    question_column: str
    top_k: int
    max_answer_len: int
    stride: int
    impossible: bool
    long_text: str
    combine: str
    max_new_tokens: int
    min_new_tokens: int
    num_beams: int
    temperature: float
    top_p: float
    seed: int
    num_samples: int
    stop: str
    on_long: str
    prompt: str
    messages_column: str
    system_prompt: str
    chat: bool
    chat_template: str
    split_reasoning: bool
    endpoint: str
    choices: str
    json_schema: str
    length_normalize: bool
    row_settings_column: str
    prefix: str
    src_lang: str
    tgt_lang: str
    src_lang_column: str
    tgt_lang_column: str


def settings_of(options: Mapping[str, Any]) -> Settings:
    """The settings with these options; the environment and `headrace.toml` give the others.

    Raises:
        ConfigError: there is no such option, or a value has no meaning.
    """
    for name in options:
        if name not in JobOptions.__annotations__:
            near = difflib.get_close_matches(name, JobOptions.__annotations__, 1, 0.7)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name} is no option of a job{meant}")
    return load_settings(**{name: _plain(value) for name, value in options.items()})


def option_names() -> set[str]:
    """What `JobOptions` must offer: every option of a job, of every task of our own."""
    from headrace.setting_fields import declared_settings

    declared = {name for name, it in declared_settings().items() if it.group is not None}
    tasks = {param.name for task in BUILT_IN.values() for param in task.params}
    return (
        declared | tasks | {"broker_url", "queue_url", "model_registry", "allowed_prefixes"}
    ) - {*NOT_OFFERED}


def _plain(value: Any) -> Any:
    """Lists are the tuples that settings take."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(value) if is_list else dict(value) if isinstance(value, Mapping) else value
