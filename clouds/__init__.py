"""Where it runs: one package per target, with the same file names."""
