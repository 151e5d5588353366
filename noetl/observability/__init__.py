"""Logging and metrics of the server."""
