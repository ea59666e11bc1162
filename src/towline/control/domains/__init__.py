"""Domains: which names an organisation may publish under, and how it proves that they are its own."""
