"""The certificate authority made at first start, and the certificates of the server."""
