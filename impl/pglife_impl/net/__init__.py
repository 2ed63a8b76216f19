"""Listening sockets, and pg_hba.conf."""
