"""Backup and restore: one encrypted file with every row, the sealing keys and the authority's certificate."""
