"""Models that run in this process."""

from synth_dspy.models.embedded.precision import avoid_amx_on_one_core

avoid_amx_on_one_core()
