"""A cluster under test, its clients, and the verbs of every scenario."""
