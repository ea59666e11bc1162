"""How long a loop that looks at everything rests after a pass, so that hints in a flood do not keep the server busy."""

SHARE = 10
"""Times that a pass took, as the rest after it: passes take a tenth of the time."""

LONGEST_REST = 5.0
"""Seconds: one pass that was slow, since the database was, must not hold up what is hinted at after it."""


def rest_after(took: float, *, least: float) -> float:
    """Return seconds to rest. Args: took: of the pass, in seconds; least: so many at any rate, for a flood of hints."""
    return max(least, min(took * SHARE, LONGEST_REST))
