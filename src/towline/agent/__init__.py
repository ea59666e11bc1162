"""The process on a managed host: it joins, dials out, serves streams, runs jobs and reports. It listens on nothing."""
