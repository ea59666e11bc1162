"""Adapters to agents of older systems: each ends in the session interface, and nothing above it knows which one."""
