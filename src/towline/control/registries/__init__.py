"""Registries: credentials for pulling images, sealed, each with the places it may be used for."""
