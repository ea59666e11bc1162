"""Compose projects on this host: their folders, their revisions, and what jobs do with them."""
