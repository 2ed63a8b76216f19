"""What can be seen of a server from outside: processes, log, files, leftovers."""
