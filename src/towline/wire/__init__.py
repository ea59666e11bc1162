"""Sans-IO protocols: frames, stream states, flow control, messages, HTTP heads. No asyncio, no sockets."""
