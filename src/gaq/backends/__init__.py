"""What computes a model: its definition on PyTorch, or the native engine."""
