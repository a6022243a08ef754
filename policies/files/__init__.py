"""What is in a model's files, found without loading any of them, in the sandbox: a parser of hostile files is exposed to them."""
