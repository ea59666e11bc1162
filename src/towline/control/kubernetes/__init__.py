"""Kubernetes access: who may send which request to which cluster, as whom, and what is written down about it."""
