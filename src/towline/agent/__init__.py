"""The process on a managed host: join, dial targets, run jobs, report health. No database, no gateway."""
