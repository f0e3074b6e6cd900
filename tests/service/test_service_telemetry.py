"""Figures for Prometheus, spans for OpenTelemetry."""

from __future__ import annotations

from concurrent import futures
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import Serve

from synth_dspy.core.errors import SetupError
from synth_dspy.service.telemetry import Spans

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_an_answer_is_a_span_of_the_caller_s_trace(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    grpc = pytest.importorskip("grpc")
    collector = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    received: list[Any] = []

    class Collector(collector.TraceServiceServicer):  # type: ignore[name-defined, misc]
        def Export(self, request: Any, context: Any) -> Any:
            received.append(request)
            return ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    collector.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "false")
    with serve() as service:
        answer = service.answer(traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    server.stop(None)
    (span,) = [span for each in received for r in each.resource_spans for s in r.scope_spans for span in s.spans]
    assert span.trace_id.hex() == TRACE
    attributes = {each.key: each.value.string_value for each in span.attributes}
    assert (attributes["synth_dspy.request"], attributes["synth_dspy.version"]) == (answer["request"], "v1")


def test_without_the_exporter_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/none")
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(SetupError, match="pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"):
        Spans("contract_qa")


def test_the_figures_can_be_read_and_name_no_path_that_a_caller_made_up(serve: Serve) -> None:
    with serve() as service:
        service.answer()
        for name in ("a", "b"):
            service.client.get(f"/{name}")
        families = {each.name: each for each in text_string_to_metric_families(service.client.get("/metrics").text)}
        paths = {sample.labels["path"] for sample in families["synth_dspy_responses"].samples}
        assert paths == {"/answer", "other"}
        assert {tuple(s.labels.values()) for s in families["synth_dspy_alias"].samples} == {("champion", "v1")}
        assert families["synth_dspy_under_way"].samples[0].value == 0
