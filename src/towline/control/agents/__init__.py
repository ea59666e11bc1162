"""Agents: join tokens, enrolment, the proof at each connect, clones, keys, and their removal."""
