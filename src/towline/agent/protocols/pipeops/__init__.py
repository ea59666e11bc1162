"""The PipeOps protocols, from the agent's side: REST as of October 2025, and the WebSocket."""
