"""Append-only record of every change and of every refused one."""
