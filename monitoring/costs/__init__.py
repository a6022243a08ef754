"""What it cost: bills read exactly, split without a remainder, and compared with what was expected."""
