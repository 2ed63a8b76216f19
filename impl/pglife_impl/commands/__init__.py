"""The programs: postgres, pg_ctl, initdb, pg_controldata."""
