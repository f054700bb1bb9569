"""The four services.

In a container a service is process 1, and the kernel drops a signal that process 1 has no handler for. So whoever
that is told to end while it still imports or loads its model ends, as anywhere else; otherwise it would
come up, take requests, and be killed with them when its grace period is over. `shared.process` then drains instead.
"""

from __future__ import annotations

import os
import signal

if os.getpid() == 1:
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
