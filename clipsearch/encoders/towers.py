"""The two towers of an open_clip model, as modules that take uint8 pixels or token ids and give unit rows."""

from __future__ import annotations

import copy
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock, TextTransformer, text_global_pool
from torch.nn import functional

from clipsearch.encoders.preprocessing import PictureTransform


class ImageTower(torch.nn.Module):
    """Pixels, uint8 (n, height, width, 3), to float32 (n, dim); scaling and the last norm are done in float32."""

    def __init__(self, model: Any, picture: PictureTransform, dtype: torch.dtype = torch.float32) -> None:  # noqa: ANN401
        """Wrap a model whose weights are of the given type."""
        super().__init__()
        self.held = model
        self.dtype = dtype
        self.mean = torch.nn.Buffer(torch.tensor(picture.mean).view(1, 3, 1, 1), persistent=False)
        self.std = torch.nn.Buffer(torch.tensor(picture.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        values = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        return _unit_rows(self.held.encode_image(((values - self.mean) / self.std).to(self.dtype)))


class TextTower(torch.nn.Module):
    """Token ids, int64 (n, context_length), to float32 (n, dim)."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        """Wrap a model of any kind."""
        super().__init__()
        self.held = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        return _unit_rows(self.held.encode_text(ids))


class CausalTextTower(torch.nn.Module):
    """Token ids, int64 (n, any length), to float32 (n, dim): as CLIP.encode_text, cut to the length of the rows."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        """Wrap a model that `is_causal`."""
        super().__init__()
        self.held = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        tower, length = _holder_of_text(self.held), ids.shape[1]
        values = tower.token_embedding(ids) + tower.positional_embedding[:length]
        values = tower.transformer(values, attn_mask=tower.attn_mask[:length, :length])
        values = text_global_pool(tower.ln_final(values), ids, _pool(tower), eos_token_id=_end_of_text(tower))
        projection = tower.text_projection
        if projection is not None:
            values = projection(values) if isinstance(projection, torch.nn.Linear) else values @ projection
        return _unit_rows(values)


class SelfAttention(torch.nn.Module):
    """An nn.MultiheadAttention of one input as one projection, one fused kernel and one projection.

    The module itself takes a path of its own where no gradient is asked for, which materialises the weights where
    it does not know the kernel that was chosen, and else copies queries, keys and values.
    """

    def __init__(self, inner: torch.nn.MultiheadAttention) -> None:
        """Take the weights over."""
        super().__init__()
        self.heads = inner.num_heads
        self.in_proj_weight = inner.in_proj_weight
        self.in_proj_bias = inner.in_proj_bias
        self.out_proj = inner.out_proj

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Attend; query: (n, length, width), the same as key and value. attn_mask: (length, length), added."""
        count, length, width = query.shape
        packed = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = packed.view(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        values = functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(values.transpose(1, 2).flatten(2)), None


def build_towers(
    model: Any,  # noqa: ANN401
    picture: PictureTransform,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Copy a model to a device and return its image and text towers, ready to run; the model stays as it is."""
    held = copy.deepcopy(model).to(device=device, dtype=dtype).requires_grad_(False).eval()
    for block in held.modules():
        if type(block) is ResidualAttentionBlock and not hasattr(block, "ln_1_kv") and block.attn.batch_first:
            block.attn = SelfAttention(block.attn)
    return ImageTower(held, picture, dtype).to(device).eval(), text_tower(held)


def text_tower(model: Any) -> torch.nn.Module:  # noqa: ANN401
    """Return the text tower: one that takes rows of any length where the model `is_causal`."""
    return (CausalTextTower(model) if is_causal(model) else TextTower(model)).eval()


def is_causal(model: Any) -> bool:  # noqa: ANN401
    """Tell whether the text tower never looks past the end of a text, so that rows may end there."""
    tower = _holder_of_text(model)
    known = type(tower) in (CLIP, TextTransformer) and getattr(tower, "cls_emb", None) is None
    return known and tower.attn_mask is not None and _pool(tower) in ("argmax", "eos")


def _holder_of_text(model: Any) -> Any:  # noqa: ANN401
    return model if type(model) is CLIP else getattr(model, "text", None)


def _pool(tower: Any) -> str | None:  # noqa: ANN401
    return getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)


def _end_of_text(tower: Any) -> int | None:  # noqa: ANN401
    return getattr(tower, "text_eos_id", None) or getattr(tower, "eos_id", None)


def _unit_rows(rows: torch.Tensor) -> torch.Tensor:
    return functional.normalize(rows.to(torch.float32), dim=-1)
