"""Text encoders behind one interface, opened from a description, their vectors kept."""

from stages.encode.encoders.base import Encoded, TextEncoder
from stages.encode.encoders.cached import (
    CachedEncoder,
    describe,
    describe_none,
    is_described,
    load_encoder,
)

__all__ = [
    "CachedEncoder",
    "Encoded",
    "TextEncoder",
    "describe",
    "describe_none",
    "is_described",
    "load_encoder",
]
