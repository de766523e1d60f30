"""Training: one loop for float models and for quantization-aware training."""

from gaq.train.config import DataConfig, Optimization, TrainConfig, load_config
from gaq.train.fit import quantize, train

__all__ = ["DataConfig", "Optimization", "TrainConfig", "load_config", "quantize", "train"]
