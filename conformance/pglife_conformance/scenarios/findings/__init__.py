"""The findings of docs/findings.md that can be made to happen; each scenario claims what is right.

A release that has the defect breaks the claim with the symptom that the scenario names (Defect).
"""
