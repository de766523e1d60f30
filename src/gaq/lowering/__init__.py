"""From tensors of a model to what an engine reads."""
