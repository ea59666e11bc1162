"""What the agent asks of the Docker engine: a small HTTP client, and the answers as typed structs."""
