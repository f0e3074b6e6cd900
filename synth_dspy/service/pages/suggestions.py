"""Suggestions in use: answers that people accept, edit or reject, one by one or all that are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from synth_dspy.core.text import counted
from synth_dspy.loop import records
from synth_dspy.loop.acceptance import Acceptance, acceptance_by_version, group_of, outcome_of
from synth_dspy.loop.store import Store
from synth_dspy.service import feedback
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.feedback import Intake
from synth_dspy.service.pages.site import Site, as_sent_back

PATH = "/suggestions"
SHOWN = 50
"""Suggestions on one page."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggestion on the page.

    Attributes:
        group: its table or document; "" where it stands alone.
        about: its other inputs.
        text: as it was taken, or as it was made.
        outcome: what was decided; "" before that.
    """

    request: records.Request
    group: str
    about: str
    text: str
    outcome: str


def suggestion_routes(site: Site, intake: Intake, store: Store, *, named: bool) -> APIRouter:
    """The route `/suggestions`.

    Args:
        site: see there.
        intake: keeps decisions.
        store: of the task.
        named: whether the page is in the navigation.
    """
    router = APIRouter()
    if named:
        site.add_link(PATH, "Suggestions")

    def read(decided: bool) -> tuple[list[Suggestion], dict[str, Acceptance]]:
        requests = store.suggestions(SHOWN, decided=decided)
        decisions: dict[str, records.Feedback] = {}
        if decided and requests:
            names = [request.id for request in requests]
            decisions = {each.request: each for each in store.read(records.Feedback, request=names, kind="acceptance")}
        shown = [_suggestion(request, decisions.get(request.id)) for request in requests]
        return sorted(shown, key=lambda each: each.group), acceptance_by_version(store)

    async def page(
        request: Request, decided: bool, problem: str = "", form: Mapping[str, str] | None = None
    ) -> Response:
        suggestions, rates = await run_in_threadpool(read, decided)
        return site.render(
            request,
            "suggestions.html.j2",
            422 if problem else 200,
            suggestions=suggestions,
            rates=rates,
            decided=decided,
            problem=problem,
            form=form or {},
            id=uuid4().hex,
            kept=request.query_params.get("kept", ""),
        )

    @router.get(PATH)
    async def show(request: Request) -> Response:
        return await page(request, "decided" in request.query_params)

    @router.post(PATH)
    async def keep(request: Request) -> Response:
        form = await site.form(request)
        decided = bool(form.get("decided"))
        names = [name.removeprefix("text-") for name in form if name.startswith("text-")][:SHOWN]
        shown = await run_in_threadpool(store.read, records.Request, id=names)
        before = await run_in_threadpool(store.read, records.Feedback, request=names, kind="acceptance")
        latest = {each.request: each for each in before}
        given = []
        for each in shown:
            value = _decision(form, _suggestion(each, latest.get(each.id)))
            if value is None:
                continue
            if value == "":
                return await page(
                    request, decided, "A suggestion that is accepted needs a text: reject it instead.", form
                )
            given.append(
                feedback.Acceptance(request=each.id, value=value, id=_identifier(form.get("id", ""), each.id, value))
            )
        if given:
            await intake.take_all(given, site.rater(request))
        kept = counted(len(given), "decision")
        return site.redirect(f"{PATH}?{'decided=1&' if decided else ''}kept={kept.replace(' ', '+')}")

    return router


def _suggestion(request: records.Request, decision: records.Feedback | None) -> Suggestion:
    group = group_of(request)
    about = [str(value) for name, value in request.inputs.items() if name not in ("table", "document")]
    text = str(decision.value) if decision is not None and isinstance(decision.value, str) else request.answer
    outcome = "" if decision is None else outcome_of(decision, request)
    return Suggestion(request, "" if group == request.id else group, "\n".join(about), text, outcome)


def _decision(form: Mapping[str, str], suggestion: Suggestion) -> bool | str | None:
    """What a form says of a suggestion: accepted, rejected, or its text; None where nothing new."""
    name, text = suggestion.request.id, form.get(f"text-{suggestion.request.id}", "").strip()
    is_changed = text != as_sent_back(suggestion.text)
    rest = {"accept": "accept", "reject": "reject"}.get(form.get("do", ""), "accept" if is_changed else "")
    chosen = form.get(f"choice-{name}") or rest
    was = {"accepted": "accept", "edited": "accept", "rejected": "reject"}.get(suggestion.outcome, "")
    if chosen not in ("accept", "reject") or (chosen == was and (chosen == "reject" or not is_changed)):
        return None
    if chosen == "reject":
        return False
    return True if text == as_sent_back(suggestion.request.answer) else text


def _identifier(form: str, request: str, value: bool | str) -> UUID:
    """The same form sent twice is kept once."""
    try:
        return uuid5(UUID(form), f"{request} {value}")
    except ValueError:
        raise ServiceError(422, "The form has no id: reload the page.") from None
