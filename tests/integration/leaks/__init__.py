"""Pushes marked secrets into a real server everywhere, then searches all it puts out for the marks (promise P7)."""
