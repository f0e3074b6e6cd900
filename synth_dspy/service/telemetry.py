"""Figures for Prometheus, and spans for OpenTelemetry where it is set up (OTEL_EXPORTER_OTLP_ENDPOINT)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from synth_dspy.core.errors import SetupError
from synth_dspy.loop.records import Request

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The service's figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"synth_dspy_{name}", about, labels, registry=self.registry)

        def histogram(name: str, about: str, *labels: str) -> Histogram:
            return Histogram(f"synth_dspy_{name}", about, labels, buckets=_SECONDS, registry=self.registry)

        self.responses = counter("responses", "Responses by path and status.", "path", "status")
        self.answers = counter("answers", "Answers by version, route and outcome.", "version", "route", "outcome")
        self.abstentions = counter("abstentions", "Answers that abstain.", "version", "route")
        self.latency = histogram("answer_seconds", "Seconds until an answer, waiting included.", "version", "route")
        self.http = histogram("response_seconds", "Seconds until a response.", "path")
        self.tokens = counter("tokens", "Tokens of models.", "version", "kind")
        self.feedback = counter("feedback", "Feedback by kind.", "kind")
        self.shadows_skipped = counter("shadows_skipped", "Copies that the challenger was too busy for.")
        self.records = counter("records", "Records written to the store.")
        self.commits = counter("commits", "Commits to the store; each may hold many records.")
        self.under_way = Gauge("synth_dspy_under_way", "Requests that wait or are answered.", registry=self.registry)
        self.degraded = Gauge("synth_dspy_degraded", "1 while an alias cannot be followed.", registry=self.registry)
        self.alias = Gauge(
            "synth_dspy_alias", "1 for the version that an alias is on.", ("alias", "version"), registry=self.registry
        )

    def count(self, request: Request) -> None:
        """Count an answer, or a failure."""
        labels = (request.version, request.route)
        self.answers.labels(*labels, "error" if request.error else "answered").inc()
        self.latency.labels(*labels).observe(request.latency_s)
        self.tokens.labels(request.version, "prompt").inc(request.prompt_tokens)
        self.tokens.labels(request.version, "completion").inc(request.completion_tokens)
        if request.abstained:
            self.abstentions.labels(*labels).inc()


class Spans:
    """Spans of answers; does nothing unless an endpoint is set.

    Raises:
        SetupError: an endpoint is set and the exporter is not installed.
    """

    def __init__(self, task: str) -> None:
        self._tracer: Any = None
        self._provider: Any = None
        if not os.environ.get(ENDPOINT):
            return
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        kind = "http" if protocol.startswith("http") else "grpc"
        try:
            from importlib import import_module

            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            exporter = import_module(f"opentelemetry.exporter.otlp.proto.{kind}.trace_exporter").OTLPSpanExporter()
        except ImportError as error:
            raise SetupError(
                f"{ENDPOINT} is set, and the exporter for {protocol} is missing: "
                f"pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-{kind}."
            ) from error
        name = os.environ.get("OTEL_SERVICE_NAME", f"synth_dspy.{task}")
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("synth_dspy.service")

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """A span around an answer, within the caller's trace if its headers name one.

        Yields:
            The span's attributes, to be filled in.
        """
        attributes: dict[str, Any] = {}
        if self._tracer is None:
            yield attributes
            return
        from opentelemetry.propagate import extract

        with self._tracer.start_as_current_span(name, context=extract(headers)) as span:
            try:
                yield attributes
            finally:
                span.set_attributes({key: value for key, value in attributes.items() if value is not None})

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()
