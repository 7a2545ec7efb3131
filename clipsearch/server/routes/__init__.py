"""The routes of the HTTP API, all under /v1, by what they are about."""
