"""The local stack: started, stopped and looked at."""
