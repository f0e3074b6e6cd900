"""The log of a training job, read from CloudWatch while it runs: events, and lines of libraries."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

from synth_dspy.core import aws

log = logging.getLogger("synth_dspy.training")

GROUP = "/aws/sagemaker/TrainingJobs"


class JobLog:
    """Reads a job's log from where it was read last.

    Args:
        job: the job's name.
    """

    def __init__(self, job: str) -> None:
        self._job = job
        self._tokens: dict[str, str] = {}
        self._client: Any = aws.client("logs")

    def lines(self) -> Iterator[str]:
        """New lines; none if the log cannot be read, which is not worth stopping for."""
        if self._client is None:
            return
        try:
            streams = self._client.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{self._job}/")
            for stream in streams["logStreams"]:
                yield from self._stream(stream["logStreamName"])
        except Exception as error:
            if aws.code_of(error) in aws.MISSING or aws.is_transient(error):
                return  # there is none yet, or the next look finds more
            log.warning("the log of %s is not shown: %s", self._job, aws.text_of(error))
            self._client = None

    def _stream(self, name: str) -> Iterator[str]:
        while True:
            token = self._tokens.get(name)
            page = self._client.get_log_events(
                logGroupName=GROUP, logStreamName=name, startFromHead=True, **({"nextToken": token} if token else {})
            )
            yield from (event["message"] for event in page["events"])
            self._tokens[name] = page["nextForwardToken"]
            if not page["events"] or token == page["nextForwardToken"]:
                return


def progress_of(line: str) -> tuple[int, int] | None:
    """(steps done, steps in all) of a progress event, None for any other line."""
    try:
        event = json.loads(line)
        return (int(event["step"]), int(event["steps"])) if event.get("event") == "progress" else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
