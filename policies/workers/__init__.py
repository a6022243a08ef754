"""What runs inside the sandbox: each module is one command that reads a request and hands back an answer."""
