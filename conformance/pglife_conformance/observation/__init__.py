"""What can be seen of a server from outside: processes, log, files, what it leaves behind.

Begin with   processes.py.
Owns         reading; every module here only looks.
Leaves out   acting on what is seen (cluster.py).
Source       DESIGN section 4 (Evidence).
"""
