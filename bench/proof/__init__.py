"""Whether speculation pays, by replays with and without it or a server's own history: `adaserve report`."""
