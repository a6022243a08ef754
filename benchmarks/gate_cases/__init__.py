"""What the gates cost and find, case by case."""
