"""Training: one loop for float models and for quantization-aware training."""

from gaq.training.config import DataConfig, Optimization, TrainConfig, load_config
from gaq.training.fit import quantize, train

__all__ = ["DataConfig", "Optimization", "TrainConfig", "load_config", "quantize", "train"]
