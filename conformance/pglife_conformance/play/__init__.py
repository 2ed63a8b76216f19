"""Playing a trace of the model on a live server: `pytest conformance/ --trace FILE`.

Begin with   script.read_script() (what is to be played), plan.make_plan() (how a server can be
             brought to do it), player.play() (doing it, and the verdict).
Owns         the translation of a run of the model into stimuli, pins and waits.
Leaves out   whether what the server did is allowed: that is the monitor's.
Source       DESIGN section 4 (Sources of traces).
"""
