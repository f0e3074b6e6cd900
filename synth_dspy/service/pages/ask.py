"""The page where a question is asked and its answer rated, through the same functions as `/answer` and `/feedback`."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from synth_dspy.loop import records
from synth_dspy.loop.store import Store
from synth_dspy.service.answers import Answer, Answers
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.feedback import FEEDBACK, Intake
from synth_dspy.service.inputs import refusal
from synth_dspy.service.pages.entries import PREFIX, entries, inputs_of
from synth_dspy.service.pages.session import VISITOR
from synth_dspy.service.pages.site import Site, as_sent_back

RECENT = 500
"""Answers that their visitors see as they were given; older ones are shown as they were kept, redacted."""
KEPT = {
    "thumb": "Your thumb is kept.",
    "score": "Your score is kept.",
    "comment": "Your comment is kept.",
    "correction": "Your corrected answer is kept.",
    "better": "Your choice is kept.",
}
SCORES = {1: "useless", 2: "poor", 3: "fair", 4: "good", 5: "perfect"}


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer on the page."""

    request: records.Request
    outputs: Mapping[str, Any]


class _Recent:
    """The latest answers, for the visitors who asked."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], Answer] = OrderedDict()

    def keep(self, visitor: str, answer: Answer) -> None:
        self._answers[visitor, answer.request.id] = answer
        if len(self._answers) > RECENT:
            self._answers.popitem(last=False)

    def get(self, visitor: str, request: str) -> Answer | None:
        return self._answers.get((visitor, request))


def ask_routes(site: Site, answers: Answers, intake: Intake, store: Store) -> APIRouter:
    """The routes `/`, `/again` and `/rate`."""
    router = APIRouter()
    site.add_link("/", "Ask and rate")
    recent = _Recent()

    async def find(request: Request, name: str) -> Shown:
        """A request, as its visitor or anybody may see it."""
        mine = recent.get(request.cookies.get(VISITOR, ""), name)
        if mine is not None:
            return Shown(mine.request, mine.outputs)
        kept = await run_in_threadpool(store.read, records.Request, id=name)
        if not kept or kept[0].route == "shadow":
            raise ServiceError(404, f"There is no request {name[:100]!r}: it may have been deleted. Ask again.")
        return Shown(kept[0], {})

    def form_page(request: Request, typed: Mapping[str, str], error: ServiceError | None = None) -> Response:
        every = entries(answers.programs.champion.program.shape)
        more = [entry for entry in every[1:] if not (entry.required or entry.suggestions)]
        return site.render(
            request,
            "ask.html.j2",
            error.status if error else 200,
            entries=[entry for entry in every if entry not in more],
            more=more,
            more_open=any(typed.get(entry.field) for entry in more),
            typed=typed,
            problem=error.message if error else "",
            param=error.param if error else None,
        )

    @router.get("/")
    async def show(request: Request) -> Response:
        query = request.query_params
        if "request" not in query:
            return form_page(request, {})
        first = await find(request, query["request"])
        second = await find(request, query["other"]) if query.get("other") else None
        if second is not None and second.request.inputs != first.request.inputs:
            raise ServiceError(422, "These two answers are to different questions.")
        both = [each.request.id for each in (first, second) if each is not None]
        given = await run_in_threadpool(_given, store, both, site.rater(request))
        page = "answer.html.j2" if second is None else "compare.html.j2"
        return site.render(
            request,
            page,
            first=first,
            second=second,
            given=given,
            note=KEPT.get(query.get("kept", ""), ""),
            form_id=str(uuid4()),
            scores=SCORES,
            choices=answers.programs.champion.program.shape.choices,
            challenged=answers.programs.other(first.request.route)[0].version.id != first.request.version,
            as_json=lambda value: json.dumps(value, ensure_ascii=False, indent=2),
        )

    @router.post("/")
    async def ask(request: Request) -> Response:
        form = await site.form(request)
        try:
            inputs = inputs_of(form, answers.programs.champion.program.shape)
            answer = await answers.answer(inputs, site.rater(request), request.headers)
        except ServiceError as error:
            typed = {name: value for name, value in form.items() if name.startswith(PREFIX)}
            return form_page(request, typed, error)
        recent.keep(request.cookies[VISITOR], answer)
        return site.redirect(f"/?{urlencode({'request': answer.request.id})}")

    @router.post("/again")
    async def again(request: Request) -> Response:
        form = await site.form(request)
        first = (await find(request, form.get("request", ""))).request
        answer = await answers.answer(dict(first.inputs), site.rater(request), request.headers, unlike=first.route)
        recent.keep(request.cookies[VISITOR], answer)
        return site.redirect(f"/?{urlencode({'request': first.id, 'other': answer.request.id})}")

    @router.post("/rate")
    async def rate(request: Request) -> Response:
        form = await site.form(request)
        kind, value = form.get("kind", ""), form.get("value", "")
        given = {"kind": kind, "request": form.get("request", ""), "value": _value(kind, value)}
        try:
            # Sent twice, the same is kept once; another value from the page that the browser went back to is new.
            given["id"] = uuid5(UUID(form.get("id", "")), f"{kind} {given['request']} {value}")
            feedback = FEEDBACK.validate_python(given)
        except ValidationError as error:
            raise refusal(error) from None
        except ValueError:
            raise ServiceError(422, "The form has no id: reload the page.") from None
        if kind == "correction":
            answer = (await find(request, feedback.request)).request.answer
            if value.strip() == as_sent_back(answer):
                raise ServiceError(
                    422, "The corrected answer is the answer itself: if it is right, give it a thumb up."
                )
        await intake.take(feedback, site.rater(request))
        shown = {"request": form.get("first", feedback.request), "other": form.get("other", ""), "kept": kind}
        return site.redirect(f"/?{urlencode({name: text for name, text in shown.items() if text})}")

    return router


def _value(kind: str, typed: str) -> Any:
    """A button's value."""
    if kind == "thumb":
        return {"up": True, "down": False}.get(typed, typed)
    return int(typed) if kind == "score" and re.fullmatch("[0-9]{1,3}", typed) else typed


def _given(store: Store, requests: list[str], rater: str) -> dict[str, Any]:
    """A rater's latest feedback of each kind on these requests; the better one by its id."""
    of_rater = [each for name in requests for each in store.read(records.Feedback, request=name, rater=rater)]
    ours = [each for each in of_rater if each.kind != "better" or each.value in requests]
    return {each.kind: each.value for each in sorted(ours, key=lambda each: each.at)}
