"""What an agent speaks to control planes that are not Towline's: InstaDeploy, and PipeOps by REST and by WebSocket.

Each folder drives one of the formats in `towline.wire` with the agent's own parts: jobs, journal, projects, streams.
"""
