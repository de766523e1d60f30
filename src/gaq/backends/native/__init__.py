"""The native engine: a C library, loaded with ctypes."""
