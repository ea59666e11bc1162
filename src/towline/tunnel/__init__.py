"""Runs `towline.wire` over a WebSocket, for both ends: accept, dial, open a stream, reconnect."""
