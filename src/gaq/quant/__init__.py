"""Number formats and quantizers: what a code is, how a value gets one, how codes lie in bytes."""
