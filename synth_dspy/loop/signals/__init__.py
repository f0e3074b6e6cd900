"""Signals of change, each with a stated bound on its false alarms."""
