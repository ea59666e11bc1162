"""Certificates of public names: asked for by ACME, uploaded, or signed by our own authority; renewed and served."""
