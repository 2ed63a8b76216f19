"""Random walks through a server's life, judged by the monitor: `walk(Maker(...))`."""

from pglife_conformance.walk.life import Life, Maker
from pglife_conformance.walk.random_life import walk

__all__ = ["Life", "Maker", "walk"]
