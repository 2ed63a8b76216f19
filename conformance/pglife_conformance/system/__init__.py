"""The machine that the suite runs on: users, ports, signals, the run's directory."""
