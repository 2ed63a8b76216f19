"""The files of a data directory: lock file, control file, roles and databases."""
