"""The monitor: compares everything that is seen of a server with the model.

It keeps the set of model states that explain all stimuli and observations so far. An empty set is
a verdict: the server did what the model forbids. Begin with judge.Monitor, which is a Recorder;
binding.py turns a server's settings into a configuration of the model.

The monitor judges what a server does, not that it does anything: an idle server is always
explained. That something must happen is claimed by scenarios, with deadlines.
"""
