"""Compose files that tests of several folders deploy."""

COLOURED_WEB = """
services:
  web:
    image: towline-test/web:1
    stop_signal: KILL
    environment: {COLOUR: $COLOUR}
    healthcheck: {test: ["CMD", "true"], interval: 300ms}
"""
"""Ends at once when it is stopped, and is healthy at once."""
