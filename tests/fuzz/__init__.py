"""Seeded fuzzers of everything that comes from outside: `python -m tests.fuzz models|blobs|inputs`, see CONTRIBUTING.md."""
