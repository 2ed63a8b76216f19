"""SQL commands that are not queries."""
