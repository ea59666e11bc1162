"""Kubernetes on the command line: kubeconfig files, kubectl's plugin, and a small client for those without kubectl."""
