"""Measurements: what Convoy takes, beside its peers and its limits. `python -m benchmarks` lists them."""
