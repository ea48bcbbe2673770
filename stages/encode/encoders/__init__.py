"""Text encoders behind one interface, and the pool that loads each of them once."""

from stages.encode.encoders.base import Encoded, TextEncoder
from stages.encode.encoders.pool import Encoders, describe, load_encoder

__all__ = ["Encoded", "Encoders", "TextEncoder", "describe", "load_encoder"]
