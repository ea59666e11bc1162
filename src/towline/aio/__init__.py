"""Async tools that the standard library lacks. Knows nothing of clusters, agents or jobs."""
