"""Clusters: what they are called, what their agents report, how they are."""
