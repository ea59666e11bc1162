"""The verbs of docker and compose, done on the engine: `async def VERB(invocation)` prints, and raises problems."""
