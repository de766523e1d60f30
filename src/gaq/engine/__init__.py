"""The Python face of the native engine: lowering a force field to a blob, loading the library, predicting with it."""
