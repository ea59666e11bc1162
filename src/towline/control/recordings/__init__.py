"""Recorded shells: what was shown in a session, when, and to whom, for whoever has to know later."""
