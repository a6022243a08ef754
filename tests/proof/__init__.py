"""What is proved at length, by `make proof`: a release killed anywhere, mutants of the safety code, and a soak."""
