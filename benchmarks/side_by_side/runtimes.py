"""ONNX Runtime and OpenVINO in the best loop one can give them. Nothing here imports headrace.

Models are exported before the clock starts, once, into the job's cache folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side_by_side.job import MAX_LENGTH, Job, Outcome, read_config
from benchmarks.side_by_side.peers import Forward, loop_over

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def onnx_fused(job: Job, budget: int) -> Outcome:
    """fp32; attention, GELU and layer norm fused by onnxruntime.transformers' optimizer for BERT."""
    return loop_over(job, _session(job, _fused(job)), budget)


def onnx_plain(job: Job, budget: int) -> Outcome:
    """fp32, as torch exports it, with the graph optimizations that a session makes by itself."""
    return loop_over(job, _session(job, _exported(job)), budget)


def onnx_int8(job: Job, budget: int) -> Outcome:
    """The fused graph, weights in int8 by channel, activations quantized as they come."""
    path = _fused(job).with_name("int8.onnx")
    if not path.exists():
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            _fused(job), path, per_channel=True, weight_type=QuantType.QInt8,
            # the types of what the fused operators give are unknown to ONNX
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )  # fmt: skip
    return loop_over(job, _session(job, path), budget)


def openvino(job: Job, budget: int) -> Outcome:
    """fp32: set explicitly, since by default it takes bfloat16 where the processor has it."""
    import openvino as ov

    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": job.threads,
                "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                "ENABLE_CPU_PINNING": False}  # fmt: skip
    compiled = core.compile_model(core.read_model(_intermediate(job)), "CPU", settings)
    request = compiled.create_infer_request()

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        found = request.infer([ids, mask, np.zeros_like(ids)], share_inputs=True)
        return np.array(found[0])

    return loop_over(job, forward, budget)


def _session(job: Job, path: Path) -> Forward:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    if job.device != "cpu":
        providers.insert(0, "CUDAExecutionProvider")
    session = ort.InferenceSession(path, options, providers=providers)

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        given = dict(zip(NAMES, (ids, mask, np.zeros_like(ids)), strict=True))
        return np.asarray(session.run(None, given)[0])

    return forward


def _wrapped(job: Job, attention: str) -> tuple[Any, Any]:
    """The model with its inputs in the order of `NAMES`, and an example of them."""
    import torch
    from transformers import AutoModelForSequenceClassification as Auto

    model = Auto.from_pretrained(job.model, attn_implementation=attention).eval()

    class ByName(torch.nn.Module):
        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).logits

    wrapped = ByName()
    wrapped.model = model
    ones = torch.ones((2, 16), dtype=torch.int64)
    return wrapped, (ones, ones, torch.zeros_like(ones))


def _exported(job: Job) -> Path:
    import torch

    path = Path(job.cache) / "model.onnx"
    if not path.exists():
        model, example = _wrapped(job, "eager")
        # by the older exporter: the optimizer knows its graphs, of the newer one's it fuses no
        # attention (onnxruntime 1.32, torch 2.13)
        torch.onnx.export(
            model, example, str(path), input_names=list(NAMES), output_names=["logits"],
            dynamic_axes={name: {0: "rows", 1: "width"} for name in NAMES}, opset_version=17,
            dynamo=False,
        )  # fmt: skip
    return path


def _fused(job: Job) -> Path:
    path = Path(job.cache) / "fused.onnx"
    if not path.exists():
        from onnxruntime.transformers import optimizer

        config = read_config(job.model)
        found = optimizer.optimize_model(
            str(_exported(job)), model_type="bert", num_heads=config["num_attention_heads"],
            hidden_size=config["hidden_size"], opt_level=0,
        )  # fmt: skip
        fused = found.get_fused_operator_statistics()
        if fused["Attention"] != config["num_hidden_layers"]:
            raise RuntimeError(f"attention was not fused in every layer: {fused}")
        found.save_model_to_file(str(path))
    return path


def _intermediate(job: Job) -> Path:
    """The model in OpenVINO's own format, traced from torch with its scaled dot product."""
    import openvino as ov

    path = Path(job.cache) / "openvino.xml"
    if not path.exists():
        model, example = _wrapped(job, "sdpa")
        shapes = [ov.PartialShape([-1, ov.Dimension(1, MAX_LENGTH)])] * len(NAMES)
        ov.save_model(
            ov.convert_model(model, example_input=example, input=shapes), path,
            compress_to_fp16=False,
        )  # fmt: skip
    return path
