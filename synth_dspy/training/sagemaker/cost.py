"""What training jobs cost: told before and after, kept in the run's ledger, limited by its budget."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from synth_dspy.core.budget import TRAINING, UNLIMITED
from synth_dspy.core.config import SageMaker
from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger import Ledger, call_key
from synth_dspy.core.sagemaker import START_MINUTES, hourly_price
from synth_dspy.core.usage import ModelCall, Unit
from synth_dspy.training.spec import TrainSpec


class Costs:
    """The costs of a run's training jobs.

    Args:
        settings: machine, price, limits.
        ledger: the run's, if it has one.

    Raises:
        SetupError: the budget is limited, and the price of the machine is not known.
    """

    def __init__(self, settings: SageMaker, ledger: Ledger | None) -> None:
        self._settings, self._ledger = settings, ledger
        self._budget = UNLIMITED if ledger is None else ledger.budget
        self._price, self._source = hourly_price(settings.instance, settings.price)
        self._longest_s = round(3600 * settings.max_hours)
        if self._budget.max_usd is not None and self._price is None:
            raise SetupError(
                f"--max-usd needs the price of {settings.instance}, which is not known here: set "
                "training.sagemaker.price (US dollars an hour), or limit the time with --max-minutes."
            )

    @contextmanager
    def affordable(self, state: Mapping[str, Any] | None) -> Iterator[int]:
        """The seconds that a job may run: as set, or as the budget allows, which holds their cost meanwhile.

        Args:
            state: of a job that is under way, and is paid whether it is waited for or not; None: of a new one.

        Raises:
            BudgetReached: the budget has no room for a job.
        """
        hourly, seconds = self._price or 0.0, self._longest_s
        least = min(60 * START_MINUTES, seconds)
        if state is not None:
            seconds, least = _limit(state, seconds), 0.0
        what = f"{least / 60:g} minutes of {self._settings.instance}"
        with self._budget.holding(hourly * seconds / 3600, hourly * least / 3600, what) as usd:
            yield min(seconds, round(3600 * usd / hourly)) if hourly and state is None else seconds

    def before(self, spec: TrainSpec, seconds: int) -> str:
        """What a job may cost that may run so long."""
        machine, hours = self._settings, seconds / 3600
        what = f"a training job on {machine.instance}{' (spot)' if machine.spot else ''}"
        minutes = "" if spec.minutes is None else f", {spec.minutes:g} minutes of training and the machine's start"
        if self._price is None:
            return f"{what}{minutes}; its price is not known here: set training.sagemaker.price"
        most = f"at most ${self._price * hours:.2f} ({hours:.3g} hours at ${self._price:g}, {self._source})"
        return f"{what}{minutes}; {most}{', less on spot' if machine.spot else ''}"

    def after(self, state: Mapping[str, Any]) -> str:
        """What a billed job has cost. Billed seconds are at the on-demand price, also on spot."""
        billed, trained = state["BillableTimeInSeconds"], state.get("TrainingTimeInSeconds")
        saved = f" of {trained} (spot saved {1 - billed / trained:.0%})" if trained and trained > billed else ""
        cost = "at a price that is not known here"
        if self._price is not None:
            cost = f"about ${self._price * billed / 3600:.2f} ({self._source})"
        return f"{billed} seconds billed{saved}, {cost}"

    def count(self, name: str, training: str, state: Mapping[str, Any]) -> None:
        """Keep what a job has cost; the same job counts once.

        Args:
            name: the job's.
            training: the name of the training's folder.
            state: the job's last.
        """
        key, billed = call_key({"training job": name}), state.get("BillableTimeInSeconds")
        if self._ledger is None or not billed or self._ledger.has_answer(key):
            return
        call = ModelCall(
            key, json.dumps({"job": name}), self._settings.instance, TRAINING, Unit(TRAINING, training),
            latency_s=float(billed), cost_usd=None if self._price is None else self._price * billed / 3600,
        )  # fmt: skip
        self._ledger.record(self._budget.count((TRAINING, call.model), call))

    def ended_by_budget(self, state: Mapping[str, Any]) -> bool:
        """Whether a job was ended by a limit that the budget had set, and has cost something."""
        at_limit = state.get("SecondaryStatus") == "MaxRuntimeExceeded" and bool(state.get("BillableTimeInSeconds"))
        return at_limit and self._budget.max_usd is not None and _limit(state, self._longest_s) < self._longest_s


def _limit(state: Mapping[str, Any], default: int) -> int:
    """Seconds that a job may run."""
    return int(state.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", default))
