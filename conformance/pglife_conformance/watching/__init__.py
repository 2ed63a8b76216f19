"""One server under observation: its postmaster, all evidence, waits with a deadline."""
