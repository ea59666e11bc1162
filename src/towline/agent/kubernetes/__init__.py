"""The Kubernetes API server beside the agent: how it is reached, as whom, and what passes to it through the tunnel."""
