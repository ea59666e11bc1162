"""The verbs of kubectl, one module each: `async def VERB(invocation)` prints, and raises what went wrong."""
