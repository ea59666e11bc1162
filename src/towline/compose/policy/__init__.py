"""What a project may ask of a host: levels, grants, and one check for both ends.

The control plane checks a file before it becomes a revision; the agent checks the output of `docker compose config`
again, under its own local policy, which the control plane cannot widen: `stricter` joins the two.
Everything not named in `keys` is refused.
"""

from towline.compose.policy.check import check
from towline.compose.policy.findings import Context, Rule, Violation
from towline.compose.policy.levels import Binds, Level, Policy, for_level, local, stricter

__all__ = ["Binds", "Context", "Level", "Policy", "Rule", "Violation", "check", "for_level", "local", "stricter"]
