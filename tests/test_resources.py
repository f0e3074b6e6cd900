"""What `[models.options.<role>]` may set: of an embedded model what it knows, of another whatever is asked."""

from __future__ import annotations

from typing import Any

import pytest

from synth_dspy.core.config import Models
from synth_dspy.core.errors import SetupError
from synth_dspy.models.roles import embedded_options
from synth_dspy.pipeline.resources import check_model_options


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("temperatur", r"models\.options\.judge\.temperatur is not an option .*: did you mean temperature\?$"),
        ("max_token", "did you mean max_tokens"),
        ("penalty", "presence_penalty"),
        ("zzz", "the valid names are .*, api_base, api_key_name, .*, temperature, .*top_p\.$"),
    ],
)
def test_an_option_that_no_embedded_model_knows_is_named_with_those_like_it(option: str, sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        check_model_options(Models(judge="embedded/judge", options={"judge": {"seed": 1, option: 5}}))


def test_other_models_and_models_that_are_not_asked_take_anything() -> None:
    call_options: dict[str, Any] = {"reasoning_effort": "low"}
    check_model_options(Models(teacher="openai/gpt", options={"teacher": call_options, "judge": call_options}))


def test_every_option_that_is_known_is_taken() -> None:
    """How a server is reached is passed over, so that a role can move between the two kinds of models."""
    every_option = dict.fromkeys(embedded_options(), 1)
    assert {"temperature", "max_tokens", "seed", "n", "api_base", "timeout"} <= every_option.keys()
    check_model_options(Models(options={"student": every_option, "teacher": every_option}))
