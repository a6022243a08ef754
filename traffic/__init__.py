"""Who gets which request: the routing table, the edge agents, the attempts."""
