"""Tuned models on other people's machines: deployment, what it costs, and its removal."""
