"""Plays a trace of the model on a live server: `pytest conformance/ --trace FILE`.

Begin with script.read_script(), which reads and checks the file; then plan.make_plan(), which says
how a server can be brought to follow it; then player.play(), which does it and gives the verdict.
"""
