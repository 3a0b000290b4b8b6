# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of the command's process: nobody waits for a store that was given up."""

from __future__ import annotations

import os
import sys
import threading
import time

GRACE_SECONDS = 5.0
"""For threads that still run, to remove what they have begun."""


def leave(code: int, grace: float = GRACE_SECONDS) -> int:
    """Give back the exit code when nothing else runs in this process; else end the process with it.

    The interpreter waits at its end for the threads of every pool. One that sends a part to a store that
    does not answer may take half an hour, and as long systemd would not know that the job has failed.

    :param grace: seconds to wait for such threads.
    """
    deadline = time.monotonic() + grace
    # Those of a pool are waited for even when they are daemons, as everything is that a daemon starts.
    left = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    if not any(thread.is_alive() for thread in left):
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
