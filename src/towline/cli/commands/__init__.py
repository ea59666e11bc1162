"""Commands that speak to the API, one module a subject; each has `register(app)`."""
