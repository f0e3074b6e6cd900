"""OpenAI's chat API in front of a task: the last message is the question, and earlier ones are the conversation.

For any task with the input `question`, or with a single text input. A task without the input `conversation` sees the
last message alone. Messages of the role system reach a program with the input `system`, and else are left out: the task
has instructions of its own. Sampling is the program's, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from synth_dspy.core.text import one_line
from synth_dspy.service.answers import Answer, Answers
from synth_dspy.service.bodies import NAME, person_of, read_json
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.inputs import Shape

PREFIX = "chatcmpl-"
"""Before the id of a request, in the id of its completion."""
_SPEAKERS = {"user": "User", "assistant": "Assistant"}


class Part(BaseModel):
    """A part of a message; texts only."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """Its words."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())


class Completion(BaseModel):
    """A request for a completion; what is not here is the program's to decide, and is ignored."""

    model_config = ConfigDict(extra="ignore")

    messages: list[Message] = Field(min_length=1)
    model: str = ""
    n: Literal[1] | None = None
    stream: bool = False
    user: str | None = Field(default=None, pattern=f"^{NAME}$")


_COMPLETION = TypeAdapter(Completion)


def chat_routes(answers: Answers, task: str) -> APIRouter:
    """The routes `/v1/chat/completions` and `/v1/models`."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": task, "object": "model", "created": 0, "owned_by": "synth_dspy"}]}

    @router.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        asked = await read_json(request, _COMPLETION)
        inputs = chat_inputs(answers.programs.champion.program.shape, asked.messages)
        answer = await answers.answer(inputs, person_of(request) or asked.user, request.headers)
        if not asked.stream:
            return JSONResponse(_body(answer, task))
        return StreamingResponse(_chunks(answer, task), media_type="text/event-stream")

    return router


def chat_inputs(shape: Shape, messages: list[Message]) -> dict[str, Any]:
    """A task's inputs from messages.

    Raises:
        ServiceError: the last message is not the user's, or the task takes other inputs than a question.
    """
    required = sorted(shape.required)
    name = "question" if "question" in shape.names else required[0] if len(required) == 1 else ""
    if not name or shape.required - {name}:
        raise ServiceError(400, f"This task takes {', '.join(required)}, which a chat does not have: use POST /answer.")
    turns = [message for message in messages if message.role in _SPEAKERS]
    if not turns or turns[-1].role != "user":
        raise ServiceError(422, "The last message must be the user's.", param="messages")
    *earlier, last = turns
    given: dict[str, Any] = {name: last.text}
    if earlier and "conversation" in shape.names:
        given["conversation"] = (
            "\n".join(f"{_SPEAKERS[message.role]}: {one_line(message.text)}" for message in earlier)
            if "conversation" in shape.texts
            else [{"role": message.role, "content": message.text} for message in earlier]
        )
    system = "\n\n".join(message.text for message in messages if message.role not in _SPEAKERS)
    return given | ({"system": system} if system and "system" in shape.names else {})


def _head(answer: Answer, task: str, kind: str) -> dict[str, Any]:
    created = int(answer.request.at.timestamp())
    return {"id": PREFIX + answer.request.id, "object": kind, "created": created, "model": task}


def _body(answer: Answer, task: str) -> dict[str, Any]:
    request = answer.request
    message = {"role": "assistant", "content": request.answer, "refusal": None}
    return _head(answer, task, "chat.completion") | {
        "system_fingerprint": request.version,
        "choices": [{"index": 0, "message": message, "finish_reason": _finish(answer), "logprobs": None}],
        "usage": _usage(answer),
    }


def _finish(answer: Answer) -> str:
    return "length" if answer.truncated else "stop"


def _usage(answer: Answer) -> dict[str, int]:
    prompt, completion = answer.request.prompt_tokens, answer.request.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _chunks(answer: Answer, task: str) -> Iterator[str]:
    """The answer as one chunk of a stream, its end as another."""

    def event(choice: Mapping[str, Any], **more: Any) -> str:
        whole = _head(answer, task, "chat.completion.chunk") | {"system_fingerprint": answer.request.version}
        return f"data: {json.dumps(whole | {'choices': [{'index': 0, **choice}]} | more)}\n\n"

    yield event({"delta": {"role": "assistant", "content": answer.request.answer}, "finish_reason": None})
    yield event({"delta": {}, "finish_reason": _finish(answer)}, usage=_usage(answer))
    yield "data: [DONE]\n\n"
