"""The local cloud: regions of real processes on one machine, kept by supervisord."""
