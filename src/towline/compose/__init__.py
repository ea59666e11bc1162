"""Pure rules for Compose deployments.

Here: reading and checking a project, comparing revisions, planning a deploy, argument lists, judging health.
Not here: files, processes, sockets, clocks. Everything is data in, data out, so that both ends use the same rules.
"""
