"""The size of the pool of io workers, which a reload may change."""

from pglife_spec.lang.expr import BOOL, INT, Var

IN_FILE = Var(
    "io_workers.in_file",
    INT,
    "io_workers in the configuration file",
    bound="io_workers.in_file",
    initial=0,
)
WANTED = Var(
    "io_workers.wanted",
    INT,
    "io_workers as the postmaster has read it",
    bound="io_workers.wanted",
    initial=0,
)
SHRINKS = Var(
    "io_workers.shrinks",
    BOOL,
    "SIGUSR2 was sent to the io worker in the highest slot, and none was reaped since",
    initial=False,
)
