"""The proven hot spots, in Cython: ids, shard numbers and JSON texts of events.

Nothing here does I/O or knows anything else of the server. Each extension has a plain-Python twin in the tests.
"""
