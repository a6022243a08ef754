"""Revisions whose service is a container of the model's owner: taken out of a layout, laid out to be started, and looked into."""
