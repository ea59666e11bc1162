"""Secrets at rest: the ring of key-encryption keys and the envelope."""
