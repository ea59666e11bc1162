"""`python -m towline.agent`: the agent alone, without the command line's dependencies, which would cost it memory."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from towline.agent import app, settings
from towline.agent.errors import AgentError

EXIT_CANNOT_START = 1
CHECK = "--check"


def main(arguments: list[str]) -> int:
    """Run the agent, or `--check` whether it could. Returns: the exit status.

    Args: arguments: the settings' file, when it is not in its usual place.
    """
    named = [each for each in arguments if each != CHECK]
    load = partial(settings.load, Path(named[0]) if named else None)
    try:
        loaded = load()
        if CHECK not in arguments:
            return app.run(loaded, reread=load)
        print(app.check(loaded))
        return 0
    except AgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_CANNOT_START


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
