"""The actions, in the order of a server's life."""
