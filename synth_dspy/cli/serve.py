"""Serve a task: `python -m synth_dspy.serve TASK` answers with its champion and takes feedback.

    python -m synth_dspy.promote contract_qa 20260101-120000-ab12:sft
    python -m synth_dspy.serve contract_qa
    curl -H 'Content-Type: application/json' -d '{"question": "Which law governs?", "document": "lease"}' \\
        http://127.0.0.1:8000/answer

Promotions and rollbacks take effect within a second or two, without a restart. Callers from other machines need a key:
SYNTH_DSPY_KEY holds one, or several separated by commas. See docs/production.md.
"""

from __future__ import annotations

import os
import sys

from pydantic import Field

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.production import ProductionConfig, TaskName, open_registry
from synth_dspy.core.workspace import find_workspace
from synth_dspy.pipeline.trust import Caller


class ServeConfig(ProductionConfig):
    """What is served, where, and within which limits."""

    task: TaskName
    """The task's name."""
    host: str = "127.0.0.1"
    """Address to listen on; others than loopback need keys in SYNTH_DSPY_KEY."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0: any that is free."""
    challenger_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the traffic that a challenger gets; all requests of one person go to one version."""
    shadow: bool = False
    """A challenger gets a copy of every request instead, and nobody sees its answers."""
    keep_days: float | None = Field(default=90, gt=0)
    """Days after which requests without feedback are deleted; None keeps them."""
    redact: tuple[str, ...] = ()
    """Regular expressions: what matches in inputs, passages, answers and feedback is kept as ***."""
    redact_with: str | None = None
    """MODULE:FUNCTION of the workspace, text to text, applied to the same before they are kept."""
    concurrency: int = Field(default=64, ge=1)
    """Answers that are computed at once."""
    waiting: int = Field(default=256, ge=0)
    """Requests that may wait for their turn; further ones get 503."""
    max_body_kb: int = Field(default=1000, ge=1)
    """Length of the longest request in kilobytes."""
    rate: int = Field(default=600, ge=0)
    """Requests a minute of one key, or without one of one address, this machine excepted; 0: any number."""
    timeout: float = Field(default=120, gt=0)
    """Seconds until an answer."""
    slow_client: float = Field(default=10, gt=0)
    """Seconds in which a request must have arrived."""
    trust: bool = False
    """Allow the files, databases and models named by a program that somebody else made; without it, they are listed
    (docs/trust.md)."""
    api_base: str | None = None
    """Address of the models' server, in place of the saved one."""
    api_key_name: str | None = None
    """Environment variable with the key for that server."""
    allow_http: bool = False
    """Allow sending that key over http:// to another machine."""


def main(args: list[str]) -> None:
    """Parse `args`, then serve until stopped."""
    description = (__doc__ or "").partition("\n")[0]
    config = parse(ServeConfig, verb="serve", description=description, args=args)
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        os.environ.setdefault("OTEL_SDK_DISABLED", "false")  # before `quiet_libraries` turns it off
    registry = open_registry(config, config.task)
    registry.version("champion")  # a clear error before anything is loaded

    from synth_dspy.core.progress import Bars
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    bars = Bars()
    with bars.status("loading libraries"):
        from synth_dspy.service.access import keys_from_environment, refuse_open_bind
        from synth_dspy.service.answers import SHADOWS
        from synth_dspy.service.app import Service, make_app
        from synth_dspy.service.redaction import Redaction, find_function
        from synth_dspy.service.server import listen, make_server, place_of
        from synth_dspy.service.settings import Limits, Traffic
        from synth_dspy.service.worker import Worker, log_to_standard_error
    log_to_standard_error()
    keys = keys_from_environment()
    refuse_open_bind(config.host, keys)
    listening = listen(config.host, config.port)
    function = find_function(find_workspace(), config.redact_with) if config.redact_with else None
    caller = Caller(config.trust, config.api_base, config.api_key_name, config.allow_http, flags=True)
    limits = Limits(
        config.concurrency, config.waiting, config.max_body_kb * 1000, config.rate, config.timeout, config.slow_client
    )
    redaction = Redaction(config.redact, function)
    worker = Worker(caller, config.concurrency + SHADOWS)
    service = Service(
        registry,
        worker.open,
        worker.close_version,
        keys=keys,
        limits=limits,
        traffic=Traffic(config.challenger_share, config.shadow),
        redaction=redaction,
        keep_days=config.keep_days,
    )
    with bars.status("opening the champion"):
        app = make_app(service)
    place = place_of(listening)
    champion = registry.alias("champion")
    server = make_server(app, limits, lambda: print(f"serving {config.task} {champion} at {place}", flush=True))
    server.run(sockets=[listening])
    worker.close()
    registry.store.close()
    print("stopped; all that was answered is kept", file=sys.stderr)
