"""PipeOps agents, over their WebSocket and over REST."""
