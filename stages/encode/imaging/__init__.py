"""Picture encoders behind one interface, their vectors kept by the content of the file."""

from stages.encode.imaging.base import PictureEncoder, make_encoder
from stages.encode.imaging.kept import encode_files

__all__ = ["PictureEncoder", "encode_files", "make_encoder"]
