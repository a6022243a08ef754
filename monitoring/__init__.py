"""What we measure: the canary judge."""
