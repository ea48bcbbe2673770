"""Picture vectors by CLIP (Radford et al., 2021), of transformers or of sentence-transformers."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.core.determinism import precision_of, torch_device, torch_dtype
from stages.core.log import UserError
from stages.core.params import Pictures
from stages.encode.encoders.base import weights_hash
from stages.encode.encoders.weights import loading, model_folder, silent_off_terminals

if TYPE_CHECKING:
    from PIL.Image import Image


class ClipEncoder:
    """The image half of any model that sentence-transformers can load and that reads images.

    These are folders and hub names of sentence-transformers, and of plain CLIP, SigLIP and their
    kin in the form of transformers. Pictures are prepared by the model's own processor.
    """

    def __init__(self, params: Pictures) -> None:
        """Load the model, on CUDA where it is there.

        Raises:
            UserError: it is neither a folder nor in the local cache nor to be downloaded, a file of
                it is broken, or it reads no images.
        """
        device = torch_device()
        dtype = torch_dtype(precision_of(params.precision, device))
        self._model = _load(str(params.model), dtype, device)
        self._batch_size = params.batch_size
        processor = self._model[0].processor
        settings = getattr(processor, "image_processor", processor).to_dict()
        # Which of two programs prepares the pictures is not of the model.
        settings.pop("image_processor_type", None)
        self.dimension = int(self._model.get_embedding_dimension())
        self.side = max([*(settings.get("size") or {}).values(), 1])
        self.model_hash = weights_hash(
            self._model.state_dict(), "clip", json.dumps(settings, sort_keys=True, default=str)
        )

    def encode(self, pictures: "Sequence[Image]") -> np.ndarray:
        """Encode pictures; see `PictureEncoder`."""
        vectors = self._model.encode(
            list(pictures),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _load(name: str, dtype: Any, device: str) -> Any:
    from sentence_transformers import SentenceTransformer

    silent_off_terminals()
    folder = model_folder(name, "pictures.model")
    with loading(name, folder, "pictures.model"):
        model = SentenceTransformer(str(folder), device=device, model_kwargs={"dtype": dtype})
    if "image" not in model.modalities:
        raise UserError(
            f"pictures.model {name!r} reads {', '.join(map(str, model.modalities))} and no images; "
            "name a CLIP model"
        )
    return model.eval()
