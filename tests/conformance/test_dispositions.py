"""A server starts with default signals, even if the suite runs in the background or by nohup."""

import signal
import subprocess
import sys

from pglife_conformance.system.dispositions import reset_ignored_signals

_ASK = "import signal; print(*(signal.getsignal(n) is signal.SIG_IGN for n in (1, 2, 3)))"
_SPAWN = f"""
import signal, subprocess, sys
from pglife_conformance.system.dispositions import reset_ignored_signals
for number in (1, 2, 3):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {{15}})
for preexec in (None, reset_ignored_signals):
    subprocess.run([sys.executable, "-c", {_ASK!r}], preexec_fn=preexec, check=True)
"""


def test_signals_that_the_suite_inherits_as_ignored_are_default_in_its_programs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SPAWN], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["True True True", "False False False"]


def test_nothing_is_blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import signal; print(len(signal.pthread_sigmask(0, ())))"],
            preexec_fn=reset_ignored_signals,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    assert done.stdout.strip() == "0"
