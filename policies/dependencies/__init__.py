"""What a model needs, and what is known to be wrong with it."""
