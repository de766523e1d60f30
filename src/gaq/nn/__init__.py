"""The model: leaves whose arithmetic depends on precision, blocks that do not know it, one forward."""
