"""`python -m towline.agent`: the agent alone, without the command line's dependencies, which would cost it memory."""

from __future__ import annotations

import sys
from pathlib import Path

from towline.agent import app, settings
from towline.agent.errors import AgentError

EXIT_CANNOT_START = 1


def main(arguments: list[str]) -> int:
    """Run the agent. Args: arguments: at most one, the settings' file. Returns: the exit status."""
    try:
        return app.run(settings.load(Path(arguments[0]) if arguments else None))
    except AgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_CANNOT_START


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
