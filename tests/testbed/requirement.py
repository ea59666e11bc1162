"""Whether a part must be there, and what to say when it is not. The only reader of `TOWLINE_TEST_REQUIRE`."""

import os

VARIABLE = "TOWLINE_TEST_REQUIRE"


class Missing(Exception):
    """A part cannot be had here. `reason` says why, `remedy` what somebody could do about it."""

    def __init__(self, part: str, reason: str, remedy: str) -> None:
        super().__init__(f"{part}: {reason} ({remedy})")
        self.part = part
        self.reason = reason
        self.remedy = remedy


def is_required(part: str) -> bool:
    """Tell whether a missing part is a failure: the variable holds `all`, or part names with commas between."""
    wanted = {word.strip() for word in os.environ.get(VARIABLE, "").split(",")}
    return "all" in wanted or part in wanted
