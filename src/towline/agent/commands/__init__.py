"""Commands done natively: against the API server as whoever asked, and on the Docker engine. Never a shell.

What may be asked for is `towline.commandline`'s, held against the host's own policy here. `execution.execute` does one;
`job` is its life as a job of the control plane, the surface's `/ws` the other way in.
"""
