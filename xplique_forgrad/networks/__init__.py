"""
Networks to explain: ImageNet networks whose weights come as packages, and a user's own model.
"""

from ._imagenet import IMAGENET_NETWORKS, load_imagenet
from ._logits import to_logits
from ._network import Network
from ._specification import load_network

__all__ = ["IMAGENET_NETWORKS", "Network", "load_imagenet", "load_network", "to_logits"]
