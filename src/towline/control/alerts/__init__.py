"""Alerts: what is not well for longer than it may be, told once to the people who asked for it."""
