"""Towline: one control plane for everything you run where nobody can reach it."""

__version__ = "0.1.0"
