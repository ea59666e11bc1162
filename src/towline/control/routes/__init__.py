"""Routes: what is published under which name, where it comes from, and what the edge is told about it."""
