"""The agent's own HTTP surface: what somebody on the host, or with a port-forward to the pod, asks the agent itself."""
