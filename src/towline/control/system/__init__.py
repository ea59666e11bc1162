"""Health, metrics, version and the API documentation."""
