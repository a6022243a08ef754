"""What we serve: the scoring service and the building of Bentos."""
