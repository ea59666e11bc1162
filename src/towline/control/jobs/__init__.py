"""Jobs: work for agents as rows with a state, a lease and a deadline; exactly once in effect."""
