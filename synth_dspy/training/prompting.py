"""What the prompt optimizers share: labelled teachers, a length budget for demonstrations, and quick bootstrapping.

DSPy's bootstrapping calls the teacher one example at a time. Here the same calls are first made many at once; their
answers are in the ledger, and DSPy's own loop then finds each of them answered.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import random
from collections.abc import Callable, Iterator, Sequence

import dspy

from synth_dspy.core.errors import ArmError
from synth_dspy.core.executor import Executor
from synth_dspy.core.resources import Resources

log = logging.getLogger("synth_dspy.training.prompting")

CHARACTERS_PER_TOKEN = 3.5
TOKENS_PER_WORD = 1.8
"""Cautious estimates for legal English where the model's own tokenizer is not at hand."""


def estimate_tokens(text: str) -> int:
    """Tokens of a text, estimated from its length, on the high side."""
    return int(len(text) / CHARACTERS_PER_TOKEN) + 1


def demonstration_tokens(demonstration: dspy.Example) -> int:
    """Estimated tokens that a demonstration adds to a prompt: its fields' values and a little for their frame."""
    values = [str(value) for value in demonstration.toDict().values() if value is not None]
    return sum(estimate_tokens(value) + 8 for value in values)


def fit_demonstrations(program: dspy.Module, budget: int) -> dspy.Module:
    """Keep the demonstrations that fit the budget, in place, and of each only what the prompt shows.

    Earlier ones go first; one that is too long is passed over.

    Args:
        program: a compiled program; each of its predictors has the whole budget.
        budget: tokens that demonstrations may take in a prompt.
    """
    for predictor in program.predictors():
        left, kept = budget, []
        for demonstration in predictor.demos:
            shown = _visible(predictor, demonstration)
            cost = demonstration_tokens(shown)
            if cost <= left:
                kept.append(shown)
                left -= cost
        predictor.demos = kept
    return program


def demonstrations_within(examples: Sequence[dspy.Example], budget: int, most: int, words: int) -> int:
    """How many demonstrations fit the budget, at most `most`, about half of them traces.

    Args:
        examples: labelled examples; the longer ones of them are what a labelled demonstration is taken to cost.
        budget: tokens for all demonstrations.
        most: never more than this.
        words: words of passages in a trace, which shows all that the program was given.
    """
    lengths = sorted(demonstration_tokens(example) for example in examples)
    if not lengths:
        return 0
    labelled = lengths[int(0.9 * (len(lengths) - 1))]
    trace = max(labelled, int(words * TOKENS_PER_WORD))
    fitting = (
        count
        for count in range(most + 1)
        if traces_among(count) * trace + (count - traces_among(count)) * labelled <= budget
    )
    return max(fitting, default=0)


def traces_among(count: int) -> int:
    """How many of `count` demonstrations are bootstrapped traces, where the teacher succeeds often enough."""
    return (count + 1) // 2


def labelled_teacher(student: dspy.Module, examples: Sequence[dspy.Example], k: int, seed: int) -> dspy.Module:
    """A copy of the program with `k` labelled demonstrations, marked compiled so that every search reuses it.

    Answerable and unanswerable examples are both shown where there are both: a model that has only seen answers
    never abstains.
    """
    teacher = student.reset_copy()
    rng = random.Random(seed)
    answerable = [example for example in examples if example.references]
    silent = [example for example in examples if not example.references]
    silent_shown = min(len(silent), 1 if k > 1 else 0)
    shown = rng.sample(answerable, min(k - silent_shown, len(answerable))) + rng.sample(silent, silent_shown)
    rng.shuffle(shown)
    for predictor in teacher.predictors():
        predictor.demos = list(shown)  # whole, so that an example can be hidden from its own demonstrations
    teacher._compiled = True
    return teacher


def warm(program: dspy.Module, examples: Sequence[dspy.Example], executor: Executor) -> None:
    """Run the program on the examples many at once, so that the ledger has the answers a later loop asks for."""

    def run(example: dspy.Example) -> None:
        # DSPy hides an example from its own demonstrations; the same is done here, on a copy for each thread.
        own = program.deepcopy()
        for predictor in own.predictors():
            predictor.demos = [demo for demo in predictor.demos if demo != example]
        own(**example.inputs())

    executor.map(run, examples)


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """Send what a library prints to the log of the run instead of the terminal."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if line.strip() and "it/s" not in line:
                log.info("%s: %s", name, line.strip())


def at_least(metric: Callable[..., float], threshold: float) -> Callable[..., bool]:
    """A metric as the yes-or-no that bootstrapping asks of a trace."""

    def accept(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
        return metric(example, prediction) >= threshold

    return accept


def need_capable_teacher(arm: str, resources: Resources) -> None:
    """Refuse an arm that asks its teacher for instructions where the teacher is the small embedded model.

    Raises:
        ArmError: the teacher is the student itself.
    """
    if resources.teacher.model == resources.student.model:
        raise ArmError(
            f"The arm {arm} needs a teacher that can write instructions, and the teacher is the student itself "
            f"({resources.teacher.model}); name a capable one with --models.teacher."
        )


def need_package(arm: str, package: str) -> None:
    """Refuse an arm whose optional package is missing.

    Raises:
        ArmError: names the package.
    """
    if importlib.util.find_spec(package) is None:
        raise ArmError(f"The arm {arm} needs the package {package}: pip install {package}")


def _visible(predictor: dspy.Predict, demonstration: dspy.Example) -> dspy.Example:
    fields = set(predictor.signature.fields)
    return dspy.Example(**{name: value for name, value in demonstration.toDict().items() if name in fields})
