"""From a float model to a low-bit one."""
