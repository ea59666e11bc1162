"""Towline's tests. A regular package, so that no `tests` folder of a dependency can take its name."""
