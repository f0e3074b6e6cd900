"""From the gate to the end of a cycle: shadow, a share of the traffic, all of it, and the alarm that rolls back.

In shadow the challenger answers copies of requests; then a share of them for everybody to see; then it is the champion
and is watched. At each step it goes on unless there is evidence that it is worse than the champion was on the traffic
of these days: the gate has decided that it is better, and only what the held-out items do not show is looked for here.

Under watch the shadow is turned round: the champion before answers copies, and a test by betting on the differences of
the judge's scores looks for a loss. The other tests compare scores with a bound of what the champion before reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from scipy.stats import binomtest, fisher_exact

from synth_dspy.core.text import counted
from synth_dspy.loop.cycle import Cycle, Outcome, State
from synth_dspy.loop.gate import Pair, decide
from synth_dspy.loop.labels import score_of
from synth_dspy.loop.live import live_scores, question_of
from synth_dspy.loop.records import AliasMove, Feedback, Request, Transition, shadow_of
from synth_dspy.loop.registry import ROLLBACK
from synth_dspy.loop.signals.quality import QualityDecay, floor_of
from synth_dspy.loop.signals.together import part_of
from synth_dspy.loop.store import now
from synth_dspy.loop.work import Work

_LATEST = 1_000
"""Answers of the champion before that a floor is made of, at most: with fewer, the bound lies lower."""
_FAILURES_P = 0.01
"""So unlikely must more failures than the champion's be by chance for the challenger to be stopped."""
BY_HAND = "promoted_by_hand"
"""In a cycle's evidence: when a person promoted the version that it watches."""


def promoted_by_hand(work: Work) -> dict[str, Any] | None:
    """The beginning of a watch over a champion that a person promoted; None where there is nothing to watch.

    Its scores are compared with those of the champion before it, so that one must have answered enough. A person's
    rollback is not watched, which could undo it, nor a version that was rolled back before: whoever promotes it once
    more insists.
    """
    moves = work.registry.moves("champion")
    move = moves[-1]
    if not move.by.startswith("person:") or move.before is None or not work.plan.watched:
        return None
    if ROLLBACK in move.evidence or any(ROLLBACK in each.evidence and each.before == move.version for each in moves):
        return None
    at = move.at.isoformat()
    if any(each.evidence.get(BY_HAND) == at for each in work.registry.store.read(Transition)):
        return None
    latest = work.registry.store.read(Request, version=move.before, last=_LATEST)
    floors = _floors(work, [each for each in latest if each.route == "champion" and each.at < move.at])
    return {"champion": move.before, "challenger": move.version, "floors": floors, BY_HAND: at} if floors else None


def wait(work: Work, cycle: Cycle) -> Outcome | None:
    """A person's answer is waited for, unless the champion that the challenger was compared with is gone."""
    return champion_moved(work, cycle)


def shadow(work: Work, cycle: Cycle) -> Outcome | None:
    """Let the challenger answer copies of the traffic."""
    challenger = cycle.memory["challenger"]
    begun, ended = _begin(work, cycle, {"shadow": True}, f"{challenger} answers copies of all requests.")
    if ended is not None:
        return ended
    copies = {each.id: each for each in _requests(work, challenger, begun, "shadow")}
    answered = _requests(work, cycle.memory["champion"], begun, "champion")
    pairs = [(each, copies[shadow_of(each.id)]) for each in answered if shadow_of(each.id) in copies]
    if not _enough(len(pairs), work.plan.requests, work.plan.patience_h, begun):
        return None
    before, after = live_scores([pair[0] for pair in pairs]), live_scores([pair[1] for pair in pairs])
    scored = [
        Pair(a, b, question_of(first))
        for (first, _), a, b in zip(pairs, before, after, strict=True)
        if a is not None and b is not None
    ]
    fails = [(first.error is not None, second.error is not None) for first, second in pairs]
    worse, better = fails.count((False, True)), fails.count((True, False))
    evidence: dict[str, Any] = {"shadow_pairs": len(pairs), "shadow_failures": {"worse": worse, "better": better}}
    if worse > better and binomtest(worse, worse + better, alternative="greater").pvalue < _FAILURES_P:
        reason = f"In shadow {challenger} failed on {counted(worse, 'request')} that the champion answered."
        return _stop(work, cycle, reason, evidence)
    live = decide(scored, work.plan.policy)
    evidence["shadow_difference"] = live.evidence()["difference"]
    if live.verdict == "reject":
        return _stop(
            work, cycle, f"In shadow its passages support the answers of {challenger} less: {live.reason}", evidence
        )
    reason = f"{counted(len(pairs), 'request')} in shadow show nothing against {challenger}."
    return Outcome(
        "share", reason if pairs else _without_traffic(work.plan.requests, work.plan.patience_h, "in shadow"), evidence
    )


def share(work: Work, cycle: Cycle) -> Outcome | None:
    """Give the challenger a share of the traffic, then all of it."""
    memory, registry, plan = cycle.memory, work.registry, work.plan
    challenger = memory["challenger"]
    own = _own_move(work, cycle, "champion")
    if own is not None and own.version == challenger:  # killed between the promotion and its transition
        return Outcome("promoted", own.reason, own.evidence)
    begun, ended = _begin(
        work, cycle, {"share": plan.share}, f"{challenger} answers {100 * plan.share:g} % of the requests."
    )
    if ended is not None:
        return ended
    given = _requests(work, challenger, begun, "challenger")
    if not _enough(len(given), plan.requests, plan.patience_h, begun):
        return None
    started = next(each for each in registry.moves("challenger") if each.version == challenger)
    before = _requests(work, memory["champion"], started, "champion")
    if len(before) < len(given):
        latest = registry.store.read(Request, version=memory["champion"], last=max(plan.requests, len(given)))
        before = [each for each in latest if each.route == "champion"]
    opened = cycle.transitions[0].at  # what made it open may have changed the traffic
    since = registry.store.read(Request, version=memory["champion"], since=opened, last=_LATEST)
    reference = [each for each in since if each.route == "champion"]
    floors = _floors(work, reference if len(reference) > len(before) else before)
    failed, failed_before = (sum(each.error is not None for each in answers) for answers in (given, before))
    table = [[failed, len(given) - failed], [failed_before, len(before) - failed_before]]
    evidence: dict[str, Any] = {"cycle": cycle.id, "share_requests": len(given), "floors": floors}
    evidence |= {"difference": memory.get("difference")}
    if failed and before and fisher_exact(table, alternative="greater").pvalue < _FAILURES_P:
        return _stop(work, cycle, f"{challenger} failed on {failed} of {len(given)} requests.", evidence)
    alarm = _decay(work, given, floors)
    if alarm is not None:
        return _stop(work, cycle, f"With a share of the traffic, {alarm}", evidence)
    text = f"{counted(len(given), 'answer')} to a share of the requests show nothing against {challenger}."
    reason = (
        f"{text if given else _without_traffic(plan.requests, plan.patience_h, 'with a share')} It is the champion now."
    )
    registry.promote(challenger, "loop", reason, evidence)
    return Outcome("promoted", reason, evidence)


def watch(work: Work, cycle: Cycle) -> Outcome | None:
    """Watch the new champion, and roll back where its answers are worse than those of the one before."""
    memory, registry = cycle.memory, work.registry
    challenger, before = memory["challenger"], memory["champion"]
    move = registry.moves("champion")[-1]
    if move.version != challenger:
        _end_copies(work, cycle, move.reason)
        own = {name: value for name, value in move.evidence.items() if name.startswith("watched_")}
        return Outcome("rolled_back", f"{move.version} is the champion now ({move.by}): {move.reason}", own)
    _begin_copies(work, cycle)
    given = _requests(work, challenger, move, "champion")
    copies = {each.id: each for each in _requests(work, before, move, "shadow")}
    pairs = [(copies[name], each) for each in given if (name := shadow_of(each.id)) in copies]
    alarm = _decay(work, given, memory.get("floors") or {}, pairs, _margin(work, cycle))
    evidence = {"watched_requests": len(given), "watched_pairs": len(pairs)}
    if alarm is not None:
        reason = f"{alarm} {before} is the champion again."
        registry.roll_back("watch", reason, {"cycle": cycle.id, **evidence}, of=challenger)
        return Outcome("rolled_back", reason, evidence)
    if not _enough(len(given), work.plan.watched, work.plan.patience_h, move):
        return None
    text = f"{counted(len(given), 'answer')} of {challenger} as the champion show no decay."
    _end_copies(work, cycle, text)
    missing = _without_traffic(work.plan.watched, work.plan.patience_h, "as the champion")
    return Outcome("watched", text if given else missing, evidence)


def _margin(work: Work, cycle: Cycle) -> float:
    """How much worse it may be: it was promoted as better, or as cheaper and not much worse."""
    low = (cycle.memory.get("difference") or {}).get("low")
    return 0.0 if low is not None and low > 0 else work.plan.policy.margin


def _begin_copies(work: Work, cycle: Cycle) -> None:
    """Let the champion before answer copies of the traffic, unless somebody has ended that."""
    registry, before = work.registry, cycle.memory["champion"]
    evidence = {"cycle": cycle.id, "shadow": True, "watches": cycle.memory["challenger"]}
    begun = any(each.evidence == evidence for each in registry.moves("challenger"))
    if work.plan.copies and work.plan.watched and not begun and registry.alias("challenger") is None:
        registry.challenge(before, "loop", f"{before} answers copies while the new champion is watched.", evidence)


def _end_copies(work: Work, cycle: Cycle, reason: str) -> None:
    moves = work.registry.moves("challenger")
    if moves and moves[-1].version is not None and moves[-1].evidence.get("watches") == cycle.memory["challenger"]:
        work.registry.challenge(None, "loop", reason, {"cycle": cycle.id})


def close(work: Work, cycle: Cycle) -> Outcome:
    """The end."""
    return Outcome("closed", f"{work.registry.alias('champion')} is the champion.")


def champion_moved(work: Work, cycle: Cycle) -> Outcome | None:
    """The end of a cycle whose champion is not the champion any more: what was compared says nothing of the new one."""
    champion, challenger = cycle.memory["champion"], cycle.memory["challenger"]
    move = work.registry.moves("champion")[-1]
    if move.version == champion:
        return None
    meanwhile = f"{move.version} was made the champion meanwhile ({move.by})"
    return Outcome("closed", f"{meanwhile}; {challenger} had been compared with {champion}.")


def _begin(work: Work, cycle: Cycle, traffic: Mapping[str, Any], reason: str) -> tuple[AliasMove, Outcome | None]:
    """The move that gave the challenger its traffic, made where it is not yet; and the end where somebody ended it."""
    challenger, registry = cycle.memory["challenger"], work.registry
    moves = registry.moves("challenger")
    evidence = {"cycle": cycle.id, **traffic}
    own = [each for each in moves if each.version == challenger and each.evidence == evidence]
    last = moves[-1] if moves else None
    if (moved := champion_moved(work, cycle)) is not None:
        if last is not None and last.version == challenger:
            registry.challenge(None, "loop", moved.reason, {"cycle": cycle.id})
        return last or registry.moves("champion")[-1], moved
    if not own:
        return registry.challenge(challenger, "loop", reason, evidence), None
    if last is not None and last.version != challenger:
        own_end = last.evidence.get("cycle") == cycle.id
        text = last.reason if own_end else f"{challenger} was withdrawn ({last.by}): {last.reason}"
        return own[-1], Outcome("closed", text)
    return own[-1], None


def _stop(work: Work, cycle: Cycle, reason: str, evidence: Mapping[str, Any]) -> Outcome:
    reason = f"{reason} {cycle.memory['champion']} stays the champion."
    work.registry.challenge(None, "loop", reason, {"cycle": cycle.id})
    state: State = "closed"
    return Outcome(state, reason, evidence)


def _own_move(work: Work, cycle: Cycle, alias: Any) -> AliasMove | None:
    moves = [each for each in work.registry.moves(alias) if each.evidence.get("cycle") == cycle.id]
    return moves[-1] if moves else None


def _requests(work: Work, version: str, begun: AliasMove, route: str) -> list[Request]:
    return [each for each in work.registry.store.read(Request, version=version, since=begun.at) if each.route == route]


def _enough(count: int, wanted: int, patience_h: float, begun: AliasMove) -> bool:
    """Whether so many requests are enough, or have been waited for long enough."""
    return count >= wanted or now() - begun.at >= timedelta(hours=patience_h)


def _without_traffic(wanted: int, patience_h: float, where: str) -> str:
    if not wanted:
        return f"No requests {where} were asked for."
    return f"No request came {where} within {patience_h:g} hours."


def _floors(work: Work, requests: Sequence[Request]) -> dict[str, float]:
    """The mean scores that the champion's answers certainly reach, by who scores them."""
    floors = {name: floor_of(scores, part_of(work.plan.rate)) for name, scores in _scores(work, requests).items()}
    return {name: floor for name, floor in floors.items() if floor is not None}


def _scores(work: Work, requests: Sequence[Request]) -> dict[str, list[float]]:
    ids = {each.id for each in requests}
    people = [
        score
        for each in work.registry.store.read(Feedback)
        if each.request in ids and each.source == "person" and (score := score_of(each)) is not None
    ]
    return {"judge": [score for score in live_scores(requests) if score is not None], "people": people}


def _decay(
    work: Work,
    requests: Sequence[Request],
    floors: Mapping[str, float],
    pairs: Sequence[tuple[Request, Request]] = (),
    margin: float = 0.0,
) -> str | None:
    """Whose scores say that quality has fallen, in a sentence.

    Args:
        work: the task in production.
        requests: the new version's answers.
        floors: see `_floors`.
        pairs: the answers of the version before and of this one to the same requests.
        margin: how much worse this one's may be.
    """
    rate = work.plan.rate
    part = rate / (len(floors) + bool(pairs) or 1) - part_of(rate) / 2  # the floors have spent half of theirs
    whose = {"judge": "the judge's scores of its answers", "people": "people's scores of its answers"}
    for name, scores in _scores(work, requests).items() if floors else ():
        if name in floors and QualityDecay(floors[name], part).add(scores):
            mean = sum(scores) / len(scores)
            return f"{whose[name]} fell below {floors[name]:.2f} (mean {mean:.2f}, n = {len(scores)})."
    both = zip(*(live_scores([pair[side] for pair in pairs]) for side in (0, 1)), strict=True)
    gains = [after - before for before, after in both if before is not None and after is not None]
    if QualityDecay((1 - margin) / 2, part).add((1 + gain) / 2 for gain in gains):
        mean = 100 * sum(gains) / len(gains)
        return f"on the same requests the judge's scores are {-mean:.1f} points lower than before (n = {len(gains)})."
    return None
