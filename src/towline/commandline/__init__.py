"""Commands that people run on clusters: which there are, how their arguments are read, and what each touches.

Pure, and the same at both ends: the control plane decides by it before it submits, the agent decides again before it
acts. Deny by default: a verb, a flag or a kind of object that is not written down here is refused. Doing them is the
agent's (`towline.agent.commands`).
"""
