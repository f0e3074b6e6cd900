"""Custom Model Import: merged weights on S3 become a model of Bedrock, which answers on demand and costs nothing idle.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-customization-import-model.html
"""

from __future__ import annotations

import time
from typing import Any

from synth_dspy.core import aws
from synth_dspy.core.aws_record import Made, record
from synth_dspy.core.errors import SetupError
from synth_dspy.models.bedrock.calls import PREFIX
from synth_dspy.pipeline.cloud.deploy import Say, Upload


class BedrockImport:
    """Imports weights into Bedrock.

    Args:
        role: ARN of the role that Bedrock takes to read the weights.
        poll_s: seconds between two looks at the import.
    """

    name = "bedrock"
    service = "bedrock"
    architectures = frozenset(
        {"LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
         "Qwen3MoeForCausalLM", "GPTBigCodeForCausalLM", "GptOssForCausalLM"}
    )  # fmt: skip

    def __init__(self, role: str, *, poll_s: float = 30.0) -> None:
        self.role = role
        self.poll_s = poll_s
        self._client = aws.client("bedrock")

    def serve(self, upload: Upload, say: Say) -> str:
        """Import uploaded weights; `bedrock/<ARN>`. A model of that name, or an import under way, is taken.

        Raises:
            SetupError: the import failed, or AWS refused it.
        """
        with aws.explained(f"The import of {upload.name} into Bedrock"):
            arn = self._model(upload.name)
            if arn is None:
                record(upload.run, Made("bedrock-model", upload.name, aws.region_of(self._client)))
                job = self._running(upload.name) or self._begin(upload)
                say(f"Bedrock imports {upload.name}: a few minutes; run the same command again if it is stopped")
                arn = self._wait(job, upload.name)
        return f"{PREFIX}{arn}"

    def _model(self, name: str) -> str | None:
        try:
            return str(self._client.get_imported_model(modelIdentifier=name)["modelArn"])
        except Exception as error:
            if aws.code_of(error) in aws.MISSING:
                return None
            raise

    def _running(self, name: str) -> str | None:
        jobs = self._client.list_model_import_jobs(nameContains=name, statusEquals="InProgress")
        return next((str(job["jobArn"]) for job in jobs.get("modelImportJobSummaries", ())), None)

    def _begin(self, upload: Upload) -> str:
        request = import_request(upload, self.role, f"{upload.name}-{int(time.time())}")
        return str(self._client.create_model_import_job(**request)["jobArn"])

    def _wait(self, job: str, name: str) -> str:
        while True:
            state = self._client.get_model_import_job(jobIdentifier=job)
            if state["status"] == "Completed":
                return str(state.get("importedModelArn") or self._model(name))
            if state["status"] == "Failed":
                why = " ".join(str(state.get("failureMessage") or "no reason is given").split()).rstrip(".")
                raise SetupError(
                    f"Bedrock could not import {name} ({why}): mend that and run the same command again; the uploaded "
                    "weights are kept until `aws clean`."
                )
            time.sleep(self.poll_s)


def import_request(upload: Upload, role: str, job: str) -> dict[str, Any]:
    """The arguments of `CreateModelImportJob`.

    Args:
        upload: the weights.
        role: ARN of the role that Bedrock takes.
        job: the job's name.
    """
    return {
        "jobName": job,
        "importedModelName": upload.name,
        "roleArn": role,
        "modelDataSource": {"s3DataSource": {"s3Uri": upload.uri}},
        "clientRequestToken": job,
        "importedModelTags": [{"key": "made-by", "value": "synth-dspy"}, {"key": "run", "value": upload.run.name}],
    }
