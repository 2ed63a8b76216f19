"""What is held until it is released: at the end of a block, or of the scenario."""

from typing import Self

from pglife_conformance.cluster.cluster import Cluster


class Held:
    """Base of everything that holds a process; a context manager.

    A subclass calls `super().__init__()` once it holds something; `_release()` undoes it.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._is_held = True
        cluster.at_end.append(self.release)

    def release(self) -> None:
        """Release it, once; later calls do nothing."""
        if self._is_held:
            self._is_held = False
            self._release()

    def _release(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
