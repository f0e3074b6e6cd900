"""Shared parts of the prompt optimizers: labelled teachers, a token budget for demonstrations, fast bootstrapping.

DSPy's bootstrapping calls the teacher one example at a time. Here the same calls are first made concurrently, so that
DSPy's own loop gets only cache hits from the ledger.
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
"""Conservative estimates for legal English, for use without the model's tokenizer."""


def estimate_tokens(text: str) -> int:
    """A high estimate of the number of tokens of a text."""
    return int(len(text) / CHARACTERS_PER_TOKEN) + 1


def demonstration_tokens(demonstration: dspy.Example) -> int:
    """Estimated tokens that a demonstration adds to a prompt: its values and some for their formatting."""
    values = [str(value) for value in demonstration.toDict().values() if value is not None]
    return sum(estimate_tokens(value) + 8 for value in values)


def fit_demonstrations(program: dspy.Module, budget: int) -> dspy.Module:
    """Keep the demonstrations that fit the budget, reduced to the signature's fields, in place.

    Earlier ones take precedence; one that is too long is skipped.

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
    """The number of demonstrations that fit the budget, if half of them are bootstrapped traces.

    Args:
        examples: labelled examples; their 90th percentile is the assumed length of a labelled demonstration.
        budget: tokens for all demonstrations.
        most: maximum number.
        words: words of passages in a trace, which contains all that the program was given.
    """
    lengths = sorted(demonstration_tokens(example) for example in examples)
    if not lengths:
        return 0
    labelled = lengths[int(0.9 * (len(lengths) - 1))]
    trace = max(labelled, int(words * TOKENS_PER_WORD))
    counts = (
        count
        for count in range(most + 1)
        if traces_among(count) * trace + (count - traces_among(count)) * labelled <= budget
    )
    return max(counts, default=0)


def traces_among(count: int) -> int:
    """How many of `count` demonstrations are bootstrapped traces, if the teacher succeeds often enough."""
    return (count + 1) // 2


def labelled_teacher(student: dspy.Module, examples: Sequence[dspy.Example], k: int, seed: int) -> dspy.Module:
    """A copy of the program with `k` labelled demonstrations, marked as compiled so that every search reuses it.

    Both answerable and unanswerable examples are shown, if there are both: a model that sees only answers never
    abstains.
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


def prefetch_answers(program: dspy.Module, examples: Sequence[dspy.Example], executor: Executor) -> None:
    """Run the program on the examples concurrently, so that a later loop finds the answers in the ledger."""

    def run(example: dspy.Example) -> None:
        # DSPy removes an example from its own demonstrations; the same is done here, on a copy per thread.
        own = program.deepcopy()
        for predictor in own.predictors():
            predictor.demos = [demo for demo in predictor.demos if demo != example]
        own(**example.inputs())

    executor.map(run, examples)


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """Redirect a library's output from the terminal to the run's log."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            yield
    finally:
        for line in output.getvalue().splitlines():
            if line.strip() and "it/s" not in line:
                log.info("%s: %s", name, line.strip())


def at_least(metric: Callable[..., float], threshold: float) -> Callable[..., bool]:
    """A metric as the boolean that bootstrapping expects."""

    def accept(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
        return metric(example, prediction) >= threshold

    return accept


def need_capable_teacher(arm: str, resources: Resources) -> None:
    """Refuse an arm that needs its teacher to write instructions if the teacher is the student.

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
