"""Links: which agents are connected to this process now, what they say, and how well the line works."""
