"""A signal ends what watches, at whatever instruction it arrives."""

import subprocess
import sys

INTERRUPTED = """
import os, signal
from orchestration.cli.app import _stopped
stop = _stopped()
with stop._cond:  # as `stop.wait` has it for a moment, before and after it sleeps
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass  # the handler runs between two instructions
print(stop.wait(10))
"""


def test_a_signal_that_interrupts_the_wait_for_it_ends_the_wait() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "True\n", done.stderr
