"""How a process of the server ends: the exit codes and the exception that carries one.

Source: storage/ipc/ipc.c: proc_exit().
"""

from pglife_impl import ImplError

EXIT_DONE = 0
EXIT_FATAL = 1


class ProcExit(ImplError):
    """Unwind to the main function of this process, clean up, and exit with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code
