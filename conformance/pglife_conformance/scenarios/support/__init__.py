"""Functions that several folders of scenarios share."""
