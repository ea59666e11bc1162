"""Spans of time as people write them."""

from towline.cli.errors import USAGE, CliError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    """Read a span of time. Raises: CliError."""
    if text[-1:] in UNITS and text[:-1].isdigit():
        return int(text[:-1]) * UNITS[text[-1]]
    raise CliError(f"{text!r} is no span of time", hint="write 30s, 10m, 2h or 3d", code=USAGE)
