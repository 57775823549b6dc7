"""Which collector spans and metrics go to, as `OTEL_*` says.

Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from headrace.settings import otel_setting
from schemas.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

Signal = Literal["traces", "metrics"]

LONGEST_EXPORT_S = 5.0
"""The longest time for one export; chosen: a drain has 30 s in total."""


def is_wanted(signal: Signal) -> bool:
    """True if a collector is configured for the signal and not switched off.

    Spans are exported if any endpoint is set. Metrics are exported only with
    `OTEL_METRICS_EXPORTER=otlp` or an endpoint of their own, since Prometheus is the usual way.

    Raises:
        ConfigError: an unknown exporter or an invalid endpoint.
    """
    exporter = otel_setting(f"OTEL_{signal.upper()}_EXPORTER")
    if exporter not in (None, "none", "otlp"):
        raise ConfigError(
            f"OTEL_{signal.upper()}_EXPORTER={exporter}: headrace knows otlp and none"
        )
    disabled = (otel_setting("OTEL_SDK_DISABLED") or "").lower() == "true"
    endpoint = otel_setting("OTEL_EXPORTER_OTLP_ENDPOINT", signal)
    if disabled or exporter == "none" or endpoint is None:
        return False
    own = otel_setting(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") is not None
    return signal == "traces" or own or exporter == "otlp"


def protocol_of(signal: Signal) -> str:
    """`http/protobuf` or `grpc`.

    Raises:
        ConfigError: an unsupported protocol, or an HTTP endpoint without a scheme.
    """
    protocol = otel_setting("OTEL_EXPORTER_OTLP_PROTOCOL", signal) or "http/protobuf"
    if protocol not in ("http/protobuf", "grpc"):
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: headrace speaks http/protobuf and grpc"
        )
    endpoint = otel_setting("OTEL_EXPORTER_OTLP_ENDPOINT", signal) or ""
    if protocol != "grpc" and not endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT starts with http:// or https://, such as http://localhost:4318"
        )
    return protocol


def timeout_s(signal: Signal, grace_s: float) -> float:
    """Seconds that one export may take: `OTEL_EXPORTER_OTLP_TIMEOUT`, within a drain's grace."""
    asked = number("OTEL_EXPORTER_OTLP_TIMEOUT", LONGEST_EXPORT_S, signal)
    return min(asked, LONGEST_EXPORT_S, max(1.0, grace_s / 2))


def number(name: str, default: float, signal: Signal | None = None) -> float:
    """A positive number from an `OTEL_*` variable; the default if it is not set.

    Raises:
        ConfigError: it is not a number above zero.
    """
    text = otel_setting(name, signal)
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ConfigError(f"{name}={text} is not a number above zero")
    return value


def span_exporter(grace_s: float) -> SpanExporter:
    """The OTLP exporter of spans.

    Raises:
        MissingExtra: gRPC was asked for and its package is not installed.
    """
    module = _module("traces", "trace_exporter")
    exporter: SpanExporter = module.OTLPSpanExporter(timeout=timeout_s("traces", grace_s))
    return exporter


def metric_exporter(grace_s: float) -> MetricExporter:
    """The OTLP exporter of metrics. Raises as `span_exporter`."""
    module = _module("metrics", "metric_exporter")
    exporter: MetricExporter = module.OTLPMetricExporter(timeout=timeout_s("metrics", grace_s))
    return exporter


def _module(signal: Signal, name: str) -> Any:
    if protocol_of(signal) != "grpc":
        return import_module(f"opentelemetry.exporter.otlp.proto.http.{name}")
    try:
        return import_module(f"opentelemetry.exporter.otlp.proto.grpc.{name}")
    except ImportError as error:
        raise MissingExtra(
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs a package more: pip install 'headrace[grpc]'"
        ) from error
