"""A real Kubernetes cluster on one machine: upstream's own servers, compiled once, run as plain processes."""
