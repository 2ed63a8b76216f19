"""What several folders of scenarios share."""
