"""A loopback double of Bedrock: Converse, InvokeModel, imports and batch jobs, answered by an OpenAI-compatible server.

Its answers are that server's and never its own: without one, a call fails. Batch jobs read and write S3.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import boto3
import httpx
from aiohttp import web
from servers import running

ACCOUNT = "arn:aws:bedrock:us-east-1:123456789012"


@dataclass
class Bedrock:
    """The double's state.

    Attributes:
        upstream: the OpenAI-compatible server.
        faults: (status, error code, message) of the next answers, in order.
        unanswered: so many records of every batch job stay without an answer.
        job_status: what batch jobs end as.
        import_failure: why imports fail, if they do.
        polls: looks at a job before it has ended.
    """

    upstream: str = ""
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    unanswered: int = 0
    job_status: str = "Completed"
    import_failure: str = ""
    polls: int = 1
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    imports: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def calls(self, operation: str) -> list[dict[str, Any]]:
        """The bodies of the requests of an operation."""
        return [each for each in self.requests if each["operation"] == operation]

    async def chat(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        async with httpx.AsyncClient(timeout=600) as client:
            reply = await client.post(f"{self.upstream}/chat/completions", json={**body, "model": model})
        reply.raise_for_status()
        answer: dict[str, Any] = reply.json()
        return answer

    async def converse_body(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        system = [{"role": "system", "content": block["text"]} for block in body.get("system", ())]
        turns = [
            {"role": turn["role"], "content": "\n".join(block["text"] for block in turn["content"])}
            for turn in body["messages"]
        ]
        settings = body.get("inferenceConfig", {})
        names = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop"}
        payload = {names[name]: value for name, value in settings.items()}
        answer = await self.chat(model, {"messages": [*system, *turns], **payload})
        choice, usage = answer["choices"][0], answer["usage"]
        stop = "max_tokens" if choice["finish_reason"] == "length" else "end_turn"
        content: list[dict[str, Any]] = [{"text": choice["message"]["content"]}]
        if tool := (body.get("toolConfig") or {}).get("toolChoice", {}).get("tool"):
            value = json.loads(choice["message"]["content"])
            content, stop = [{"toolUse": {"toolUseId": "t1", "name": tool["name"], "input": value}}], "tool_use"
        return {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": stop,
            "usage": {
                "inputTokens": usage["prompt_tokens"],
                "outputTokens": usage["completion_tokens"],
                "totalTokens": usage["total_tokens"],
            },
            "metrics": {"latencyMs": 1},
        }

    async def converse(self, request: web.Request) -> web.Response:
        model, body = unquote(request.match_info["model"]), await request.json()
        self.requests.append({"operation": "Converse", "modelId": model, **body})
        return self._fault() or web.json_response(await self.converse_body(model, body))

    async def invoke(self, request: web.Request) -> web.Response:
        model, body = unquote(request.match_info["model"]), await request.json()
        self.requests.append({"operation": "InvokeModel", "modelId": model, **body})
        if fault := self._fault():
            return fault
        if "titan-embed" in model:
            return web.json_response({"embedding": [float(len(body["inputText"])), 1.0], "inputTextTokenCount": 3})
        if "cohere.embed" in model:
            return web.json_response({"embeddings": {"float": [[float(len(text)), 1.0] for text in body["texts"]]}})
        name = model.rpartition("/")[2]
        if name not in self.models:
            return _error(404, "ResourceNotFoundException", f"no model {model}")
        return web.json_response(await self.chat(name, body))

    async def create_import(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append({"operation": "CreateModelImportJob", **body})
        if fault := self._fault():
            return fault
        arn = f"{ACCOUNT}:model-import-job/{uuid.uuid4().hex[:12]}"
        self.imports[arn] = {**body, "jobArn": arn, "status": "InProgress", "polls": self.polls}
        return web.json_response({"jobArn": arn}, status=201)

    async def list_imports(self, request: web.Request) -> web.Response:
        name, status = request.query.get("nameContains", ""), request.query.get("statusEquals")
        found = [
            {key: job[key] for key in ("jobArn", "jobName", "status")} | {"creationTime": "2026-01-01T00:00:00Z"}
            for job in self.imports.values()
            if name in job["jobName"] and status in (None, job["status"])
        ]
        return web.json_response({"modelImportJobSummaries": found})

    async def get_import(self, request: web.Request) -> web.Response:
        job = self.imports[unquote(request.match_info["job"])]
        job["polls"] -= 1
        if job["polls"] < 0 and job["status"] == "InProgress":
            job["status"] = "Failed" if self.import_failure else "Completed"
            if not self.import_failure:
                name = job["importedModelName"]
                self.models[name] = {"modelArn": f"{ACCOUNT}:imported-model/{name}", "modelName": name}
        found = {key: job[key] for key in ("jobArn", "jobName", "status", "importedModelName")}
        if job["status"] == "Completed":
            found["importedModelArn"] = self.models[job["importedModelName"]]["modelArn"]
        return web.json_response(found | {"failureMessage": self.import_failure})

    async def get_model(self, request: web.Request) -> web.Response:
        name = unquote(request.match_info["model"])
        if name not in self.models:
            return _error(404, "ResourceNotFoundException", f"no model {name}")
        return web.json_response(self.models[name])

    async def delete_model(self, request: web.Request) -> web.Response:
        if self.models.pop(unquote(request.match_info["model"]), None) is None:
            return _error(404, "ResourceNotFoundException", "no such model")
        return web.json_response({})

    async def create_job(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append({"operation": "CreateModelInvocationJob", **body})
        if fault := self._fault():
            return fault
        arn = f"{ACCOUNT}:model-invocation-job/{uuid.uuid4().hex[:12]}"
        self.jobs[arn] = {**body, "jobArn": arn, "status": "InProgress", "polls": self.polls}
        return web.json_response({"jobArn": arn})

    async def list_jobs(self, request: web.Request) -> web.Response:
        name = request.query.get("nameContains", "")
        found = [_summary(job) for job in self.jobs.values() if name in job["jobName"]]
        return web.json_response({"invocationJobSummaries": found})

    async def get_job(self, request: web.Request) -> web.Response:
        job = self.jobs[unquote(request.match_info["job"])]
        job["polls"] -= 1
        if job["polls"] < 0 and job["status"] == "InProgress":
            if self.job_status == "Completed":
                await self._run_job(job)
            job["status"] = self.job_status
        return web.json_response(_summary(job) | {"message": "the double's reason"})

    async def stop_job(self, request: web.Request) -> web.Response:
        self.jobs[unquote(request.match_info["job"])]["status"] = "Stopped"
        return web.json_response({})

    async def _run_job(self, job: dict[str, Any]) -> None:
        s3 = boto3.client("s3")
        bucket, _, key = job["inputDataConfig"]["s3InputDataConfig"]["s3Uri"].removeprefix("s3://").partition("/")
        text = await asyncio.to_thread(lambda: s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())
        rows = []
        for number, line in enumerate(text.splitlines()):
            row = json.loads(line)
            if number < self.unanswered:
                row["error"] = {"errorCode": 500, "errorMessage": "on purpose"}
            else:
                row["modelOutput"] = await self.converse_body(job["modelId"], row["modelInput"])
            rows.append(json.dumps(row))
        bucket, _, key = job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"].removeprefix("s3://").partition("/")
        key = f"{key}{job['jobArn'].rpartition('/')[2]}/input.jsonl.out"
        await asyncio.to_thread(lambda: s3.put_object(Bucket=bucket, Key=key, Body="\n".join(rows).encode()))

    def _fault(self) -> web.Response | None:
        return _error(*self.faults.pop(0)) if self.faults else None


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status, headers={"x-amzn-ErrorType": code})


def _summary(job: dict[str, Any]) -> dict[str, Any]:
    names = ("jobArn", "jobName", "modelId", "roleArn", "status", "inputDataConfig", "outputDataConfig")
    return {name: job[name] for name in names} | {"submitTime": "2026-01-01T00:00:00Z"}


@contextlib.contextmanager
def bedrock(upstream: str = "") -> Iterator[Bedrock]:
    """Run the double."""
    double = Bedrock(upstream)
    application = web.Application(client_max_size=1 << 26)
    add = application.router
    add.add_post("/model/{model}/converse", double.converse)
    add.add_post("/model/{model}/invoke", double.invoke)
    add.add_post("/model-import-jobs", double.create_import)
    add.add_get("/model-import-jobs", double.list_imports)
    add.add_get("/model-import-jobs/{job}", double.get_import)
    add.add_get("/imported-models/{model}", double.get_model)
    add.add_delete("/imported-models/{model}", double.delete_model)
    add.add_post("/model-invocation-job", double.create_job)
    add.add_get("/model-invocation-jobs", double.list_jobs)
    add.add_get("/model-invocation-job/{job}", double.get_job)
    add.add_post("/model-invocation-job/{job}/stop", double.stop_job)
    with running(application) as double.port:
        yield double
