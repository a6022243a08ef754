"""The doors: the command, the HTTP API, the local stack."""
