"""What may say no: the gates and the data contracts."""
