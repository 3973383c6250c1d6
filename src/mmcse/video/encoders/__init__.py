"""Networks that turn clips into features: one small interface, one module per network."""

from mmcse.video.encoders.base import Encoder, Weights

__all__ = ["Encoder", "Weights"]
