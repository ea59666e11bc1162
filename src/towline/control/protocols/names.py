"""Names of the older systems whose agents are understood, as tokens and rows carry them."""

from typing import Literal

Protocol = Literal["pipeops", "instadeploy"]
