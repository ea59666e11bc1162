"""The control plane that these tests talk to."""

from tests.support.control_fixtures import cheap_passwords, control_app, small_app

__all__ = ["cheap_passwords", "control_app", "small_app"]
