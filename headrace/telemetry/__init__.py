"""OpenTelemetry set up: provider, exporters, the queue of spans, Prometheus."""
