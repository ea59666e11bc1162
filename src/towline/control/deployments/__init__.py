"""Deployments: Compose projects on clusters, their revisions and what becomes of them."""
