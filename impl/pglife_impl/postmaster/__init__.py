"""The postmaster: pure decisions, and the loop that acts on them."""
