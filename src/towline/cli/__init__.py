"""Thin commands: flags to settings, call, print. Server and agent are imported inside their commands."""
