"""Settings: postgresql.conf, values, and the settings of one process."""
