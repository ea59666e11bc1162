"""InstaDeploy agents, and that system's REST API."""
