"""Data plane: the edge that owns the sockets, and proxying. Declares what it needs in `interfaces`."""
