"""Graphs and predictions between numpy, where everybody meets, and PyTorch, where models compute."""

import numpy as np
import torch
from torch import Tensor

from gaq.arrays import Array
from gaq.graph import Graph, Prediction


def tensors(graph: Graph, device: torch.device | str | None = None) -> Graph:
    """Return the graph with tensors on a device for its arrays; those that are there already are shared.

    Args:
        device: None leaves tensors where they are.
    """
    return graph.mapped(lambda values: tensor(values, device))


def tensor(values: Array, device: torch.device | str | None = None) -> Tensor:
    """Return an array or tensor as a tensor on a device; arguments as for `tensors`."""
    made = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values, order="C"))
    return made if device is None else made.to(device)


def arrays(prediction: Prediction) -> Prediction:
    """Return the prediction with numpy arrays for its tensors."""
    return prediction.mapped(lambda values: values.detach().cpu().numpy())
