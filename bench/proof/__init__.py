"""Whether speculation pays, from a replay with and without it or from a server's own history: `adaserve report`."""
