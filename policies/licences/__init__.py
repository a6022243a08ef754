"""Under which licences a model, its data and what it needs stand."""
