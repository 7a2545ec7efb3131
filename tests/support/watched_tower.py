"""A tower on a device that fails when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.support import tiny_openclip


class WatchedTower(torch.nn.Module):
    """An image tower whose copies, which are what runs on the device, show `before` each batch first."""

    def __init__(self, inner: torch.nn.Module, before: Callable[[torch.Tensor], None], is_copy: bool = False) -> None:
        super().__init__()
        self.inner, self.before, self.is_copy = inner, before, is_copy

    def __deepcopy__(self, memo: dict[int, Any]) -> WatchedTower:
        return WatchedTower(self.inner, self.before, is_copy=True)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.is_copy:
            self.before(values)
        return self.inner(values)


def watched(folder: Path, before: Callable[[torch.Tensor], None], **options: Any) -> Any:
    """Load a saved model on torch, on the processor in the place of a GPU; options: those of TorchEncoder."""
    encoder = tiny_openclip.on_torch(folder, ["cpu"], **options)
    model = encoder._reference.model
    model.visual = WatchedTower(model.visual, before)
    return encoder
