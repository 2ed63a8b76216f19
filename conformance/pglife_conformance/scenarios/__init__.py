"""The scenarios: one claim each, in the order of the rules."""
