"""What was really answered: from Envoy's logs to counts of attempts per second."""
