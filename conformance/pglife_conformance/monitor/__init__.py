"""The monitor: holds everything that is seen of a server against the model.

Begin with   judge.Monitor, a Recorder; then binding.py (settings to a configuration of the model)
             and labels.py (log lines to what the model's steps leave behind).
Owns         the set of model states that explain all that was seen. An empty set is a verdict: the
             server did what the model forbids.
Leaves out   what a scenario demands by itself; that something must happen at all (deadlines do).
Source       DESIGN section 4 (Monitor).
"""
