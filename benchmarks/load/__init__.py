"""Load on running servers, ours and the reference side by side: see `benchmarks.load.__main__`."""
