"""The `adaserve` command: start the local stack, talk to a running one."""
