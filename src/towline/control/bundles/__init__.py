"""Bundles: the files beside a Compose file, stored once by content."""
