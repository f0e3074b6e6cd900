"""The page of the loop: versions and aliases, signals, cycles, and what waits for a person."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from synth_dspy.core.invocation import command
from synth_dspy.evaluation.blind.review import Review
from synth_dspy.evaluation.blind.sheets import KEY
from synth_dspy.loop.cycle import Cycles, State
from synth_dspy.loop.monitor import DOCUMENTS, describe
from synth_dspy.loop.records import AliasMove, Reading
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.status import PAGE, answer_cycle, judging_folder, latest_readings
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.pages.review import review_routes
from synth_dspy.service.pages.site import Site, fields, is_name

MOVES = 20
"""Latest moves of aliases that are shown."""
SIGNALS = {
    "documents": "whether documents were added, changed or removed",
    "questions": "whether people ask other things than before",
    "people": "whether people's scores fall",
    "judge": "whether answers are less supported by their passages",
    "retrieval": "whether passages have less to do with the questions",
    "failures": "whether more requests fail, or get no answer",
    "model": "whether a hosted model answers the same questions otherwise",
    "latency": "whether answers take longer",
    "cost": "whether answers cost more",
}
"""What each signal watches."""
NOW: dict[State, str] = {
    "opened": "Documents are being compared, and the index brought up to date.",
    "indexed": "It is being written down what moved.",
    "questions": "Feedback is being made into training data.",
    "rows": "A new program is being trained.",
    "trained": "Champion and challenger are answering the held-out items.",
    "compared": "The gate is about to decide.",
    "decided": "The gate has decided.",
    "waiting": "The challenger waits for a person.",
    "shadow": "The challenger answers copies of requests; nobody sees its answers.",
    "share": "The challenger answers a share of the requests.",
    "promoted": "The challenger is the champion, and is being watched.",
    "watched": "The new champion holds.",
    "rolled_back": "The previous champion answers again.",
    "closed": "Ended.",
}
"""What a cycle in each state is doing."""
DONE = {
    "approve": "Approved: the challenger goes on.",
    "reject": "Rejected: the champion stays.",
}


def loop_routes(site: Site, registry: Registry) -> APIRouter:
    """The route `/loop`."""
    router = APIRouter()
    site.add_link("/loop", "Loop")

    @router.get("/loop")
    def show(request: Request) -> Response:
        cycles = Cycles(registry.store, {}).all()
        current = cycles[-1] if cycles and cycles[-1].state != "closed" else None
        return site.render(
            request,
            "loop.html.j2",
            versions=registry.versions()[::-1],
            aliases={alias: registry.alias(alias) for alias in ("champion", "challenger", "previous")},
            moves=registry.store.read(AliasMove, last=MOVES)[::-1],
            readings=[(each, _says(each)) for each in latest_readings(registry.store)],
            cycles=cycles[::-1],
            current=current,
            judging=judging_folder(current),
            page=PAGE,
            command=command("blind page"),
            watches=SIGNALS,
            doing=NOW,
            note=DONE.get(request.query_params.get("done", ""), ""),
        )

    @router.post("/loop")
    async def answer(request: Request) -> Response:
        form = await site.form(request)
        cycle, verdict, by, reason = fields(form, "cycle", "verdict", "by", "reason")
        if verdict not in DONE:
            raise ServiceError(422, "Press Approve or Reject.")
        if not is_name(by):
            raise ServiceError(
                422, "Say who you are: at most 100 letters without accents, digits and . @ : + - _", param="by"
            )
        approve = verdict == "approve"
        await run_in_threadpool(
            lambda: answer_cycle(registry, f"person:{by}", approve=approve, reason=reason, cycle=cycle)
        )
        return site.redirect(f"/loop?done={verdict}")

    return router


def judging_routes(site: Site, registry: Registry) -> APIRouter:
    """The route `/review`: the pairs that the open cycle waits for people to judge."""
    opened: dict[Path, Review] = {}

    def open_review() -> Review:
        folder = judging_folder(Cycles(registry.store, {}).current())
        if folder is None:
            raise ServiceError(404, "No cycle waits for people to judge its answers; the page Loop says what it does.")
        if not (folder / KEY).is_file():
            raise ServiceError(
                404, f"The answers to judge are not on this machine: judge them where {folder} is, with `blind page`."
            )
        if folder not in opened:
            opened.clear()
            opened[folder] = Review(folder)
        return opened[folder]

    return review_routes(site, open_review)


def _says(reading: Reading) -> str:
    """What a reading says, in words."""
    if reading.alarm and (reading.signal == DOCUMENTS or "seen" in reading.evidence):
        return describe(reading)
    return "Alarm." if reading.alarm else "Nothing has changed."
