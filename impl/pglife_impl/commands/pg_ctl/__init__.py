"""The program pg_ctl."""
