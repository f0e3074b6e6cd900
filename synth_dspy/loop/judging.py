"""People judge a cycle's pairs of answers blind, and the gate corrects the judge by what they say.

The pairs are drawn at random among all that the gate looked at. Two answers that are the same are as right as each
other whatever anybody says of them, so people see only the pairs that differ. Sheets, key and votes lie in the cycle's
folder, in the form of any blind comparison: a vote is on the disk before it is acknowledged, and a loop or a service
that is killed finds them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from synth_dspy.core.splits import hash_order
from synth_dspy.evaluation.blind.review import RATERS
from synth_dspy.evaluation.blind.sheets import KEY, RIGHT, make_sheets, output_of, read_key
from synth_dspy.evaluation.blind.verdicts import Verdict, verdicts_of
from synth_dspy.evaluation.blind.votes import VOTES, read_whole_votes
from synth_dspy.evaluation.finished_runs import Arm, FinishedRun
from synth_dspy.evaluation.records import Measurements, Prediction, Results
from synth_dspy.loop.comparison import CHALLENGER, CHAMPION
from synth_dspy.loop.gate import Pair

_COMPARED, _DRAWN, _ALIKE = "compared", "drawn", "alike"
"""In a key: the ids of all pairs, of those that were drawn, and of the drawn ones whose answers are the same."""


@dataclass(frozen=True, slots=True)
class Judging:
    """The pairs that were drawn after a look of the gate, and what people said of them until now.

    Attributes:
        look: after which they were drawn.
        folder: of the sheets and votes.
        compared: the ids of all pairs of that look.
        drawn: those that were drawn, in random order.
        alike: the drawn ones whose two answers are the same, which nobody is shown.
        verdicts: people's, by id; on pairs that were drawn after earlier looks too.
        shown: how many pairs these sheets show.
        begun: whether anybody has judged one of these.
        done: how many of them as many raters as were wanted have voted on or skipped.
    """

    look: int
    folder: Path
    compared: frozenset[str]
    drawn: tuple[str, ...]
    alike: frozenset[str]
    verdicts: Mapping[str, Verdict]
    shown: int
    begun: bool
    done: int

    @property
    def complete(self) -> bool:
        """Whether nobody is waited for."""
        return self.done == self.shown

    def label(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs with people's labels.

        Of the drawn pairs that nobody needed to see as large a share is labelled as people judged of the others, so
        that the labelled pairs are a random part of those that were compared.
        """
        differing = [name for name in self.drawn if name not in self.alike]
        judged = [name for name in differing if (verdict := self.verdicts.get(name)) is not None and verdict.right]
        alike = [name for name in self.drawn if name in self.alike]
        settled = {*alike[: round(len(alike) * len(judged) / len(differing)) if differing else len(alike)]}
        labelled = []
        for pair in pairs:
            if pair.item in settled:
                pair = replace(pair, champion_label=pair.champion, challenger_label=pair.champion)
            elif pair.item in judged:
                right = self.verdicts[pair.item].right
                pair = replace(pair, champion_label=right[CHAMPION], challenger_label=right[CHALLENGER])
            labelled.append(pair)
        return labelled

    def evidence(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """How many of the labelled pairs people judged, and who."""
        labelled = {pair.item for pair in pairs if pair.labelled_gain is not None}
        used = [self.verdicts[name] for name in labelled - self.alike]
        return {
            "pairs": len(used),
            "alike": len(labelled & self.alike),
            "raters": sorted({rater for verdict in used for rater in verdict.raters}),
            "skipped": sum(not verdict.right for verdict in self.verdicts.values()),
        }


def draw_pairs(
    folder: Path,
    look: int,
    pairs: Sequence[Pair],
    answers: Mapping[str, Mapping[str, Prediction]],
    *,
    task: str,
    most: int,
    raters: int,
) -> Judging | None:
    """Draw pairs for people to judge, and write the sheets, unless they are there already.

    Args:
        folder: of the cycle.
        look: after which look of the gate.
        pairs: that it looked at.
        answers: of champion and challenger, by the items' ids.
        task: its name.
        most: pairs to draw; those that differ and have not been judged yet are shown.
        raters: votes that each is to get.

    Returns:
        None where there is nothing that people could say more about.

    Raises:
        SetupError: the files cannot be written.
    """
    out = _folder(folder, look)
    if not (out / KEY).is_file():
        names = [pair.item for pair in pairs if all(pair.item in answers[side] for side in (CHAMPION, CHALLENGER))]
        drawn = sorted(names, key=lambda name: hash_order(f"{folder.name} {name}"))[:most]
        rows = {side: {name: {**answers[side][name], "error": None} for name in drawn} for side in answers}
        run = FinishedRun(folder, folder.name, cast("Results", {"task": task}), cast("Measurements", {}), ())
        arms = [Arm(side, side, run, cast("Mapping[str, Prediction]", rows[side])) for side in (CHAMPION, CHALLENGER)]
        alike = [name for name in drawn if len({output_of(arm, name) for arm in arms}) == 1]
        before = _verdicts(folder, look - 1)
        new = [name for name in drawn if name not in alike and name not in before]
        if not new:
            return None
        shown = [replace(arm, rows={name: arm.rows[name] for name in new}) for arm in arms]
        seed = int(hash_order(f"{folder.name} {look}")[:8], 16)
        more = {_COMPARED: names, _DRAWN: drawn, _ALIKE: alike, RATERS: raters}
        make_sheets(shown, out, items=len(new), seed=seed, asks=RIGHT, more=more)
    return read_judging(folder, look)


def read_judging(folder: Path, look: int) -> Judging | None:
    """What people have said of the pairs that were drawn after a look, or last before it; None where none were drawn.

    Raises:
        SetupError: the files are damaged.
    """
    drawn = [number for number in range(1, look + 1) if (_folder(folder, number) / KEY).is_file()]
    if not drawn:
        return None
    out = _folder(folder, drawn[-1])
    key = read_key(out)
    verdicts = _verdicts(folder, look)
    shown = [facts["id"] for facts in key["items"].values()]
    done = sum(name in verdicts and len(verdicts[name].raters) >= key[RATERS] for name in shown)
    alike = frozenset(key[_ALIKE])
    begun = any(name in verdicts and verdicts[name].right for name in shown)
    compared = frozenset(key[_COMPARED])
    return Judging(drawn[-1], out, compared, tuple(key[_DRAWN]), alike, verdicts, len(shown), begun, done)


def progress(folder: Path) -> str:
    """How many of the pairs in a folder of sheets people have judged: "12 of 40 judged"."""
    judging = read_judging(folder.parent, int(folder.name.rpartition("-")[2]))
    if judging is None:
        return f"in {folder}, which is not on this machine"
    rest = ", which count at the next look" if judging.complete else ""
    return f"{judging.done} of {judging.shown} judged{rest}"


def _verdicts(folder: Path, look: int) -> dict[str, Verdict]:
    verdicts: dict[str, Verdict] = {}
    for number in range(1, look + 1):
        place = _folder(folder, number)
        if (place / KEY).is_file():
            verdicts |= verdicts_of(read_key(place), read_whole_votes(place / VOTES))
    return verdicts


def _folder(folder: Path, look: int) -> Path:
    return folder / f"judging-{look}"
