"""The torch engine: one transformers model, several routes through a token tree."""

from opera_service.engines.torch.engine import TorchEngine

__all__ = ["TorchEngine"]
