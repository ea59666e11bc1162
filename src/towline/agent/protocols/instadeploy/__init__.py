"""The InstaDeploy WebSocket, from the agent's side."""
