"""The four services.

In a container a service is process 1, and the kernel drops a signal that process 1 has no handler for. So whoever
is told to end while it imports or loads its model would come up all the same, take requests, and be killed with
them when its grace period is over. From the first import on it ends, as it would anywhere else; `shared.process`
drains later.
"""

from __future__ import annotations

import os
import signal

if os.getpid() == 1:
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
