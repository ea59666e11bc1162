"""Commands: argument lists that people run on clusters, each target as one job; saved ones and runs."""
