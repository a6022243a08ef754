"""Rego policies: read, looked through for what is forbidden, decided in process, tested."""
