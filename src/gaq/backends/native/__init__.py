"""The native engine: a C library, loaded with ctypes."""

from gaq.backends.native.potential import potential, variants

__all__ = ["potential", "variants"]
