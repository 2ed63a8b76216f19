"""What a scenario expects of a server over some time: its log, crash cycles, complete startups."""
