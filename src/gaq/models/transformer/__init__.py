"""A Euclidean transformer of the So3krates family."""
