"""CLIP of transformers and of sentence-transformers: the same vectors, and clear refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages.core.log import UserError
from stages.core.params import Pictures
from stages.encode.imaging import PictureEncoder, make_encoder
from tests.encode import tiny_models
from tests.encode.imaging.drawing import noise

PICTURES = [noise(1), noise(2, 64, 20), noise(3, 32, 32)]


def encoder(model: Path | str, **options: object) -> PictureEncoder:
    chosen = {"encoder": "clip", "model": str(model), "precision": "fp32", **options}
    return make_encoder(Pictures.model_validate(chosen))


def test_vectors_are_those_of_the_model(clip: Path) -> None:
    import torch
    from transformers import AutoImageProcessor, CLIPModel

    model, prepare = CLIPModel.from_pretrained(clip), AutoImageProcessor.from_pretrained(clip)
    with torch.inference_mode():
        features = model.get_image_features(**prepare(PICTURES, return_tensors="pt")).pooler_output
    expected = torch.nn.functional.normalize(features).numpy()
    made = encoder(clip)
    found = made.encode(PICTURES)
    assert (found.dtype, found.shape) == (np.float32, (3, made.dimension))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert made.side == 32


def test_a_model_of_sentence_transformers_gives_the_same(clip: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(clip), device="cpu").save(
        str(tmp_path / "new"), create_model_card=False
    )
    shutil.copytree(clip, tmp_path / "old" / "0_CLIPModel")
    module = {"idx": 0, "name": "0", "path": "0_CLIPModel"}
    kind = {"type": "sentence_transformers.models.CLIPModel"}
    (tmp_path / "old" / "modules.json").write_text(json.dumps([module | kind]))
    expected = encoder(clip).encode(PICTURES)
    for name in ("new", "old"):
        made = encoder(tmp_path / name)
        np.testing.assert_allclose(made.encode(PICTURES), expected, atol=1e-6)
        assert made.model_hash == encoder(clip).model_hash


def test_the_hash_is_of_weights_preparation_and_precision(clip: Path, tmp_path: Path) -> None:
    other = tiny_models.clip(tmp_path / "other", seed=1)
    cut = Path(shutil.copytree(clip, tmp_path / "cut"))
    about = json.loads((cut / "processor_config.json").read_text())
    about["image_processor"]["do_center_crop"] = False
    about["image_processor"]["size"] = {"height": 32, "width": 32}
    (cut / "processor_config.json").write_text(json.dumps(about))
    hashes = [encoder(clip), encoder(other), encoder(cut), encoder(clip, precision="bf16")]
    assert len({made.model_hash for made in hashes}) == 4
    assert encoder(clip).model_hash == encoder(clip, batch_size=1).model_hash


def test_half_precision_is_near(clip: Path) -> None:
    half = encoder(clip, precision="bf16").encode(PICTURES)
    assert (half * encoder(clip).encode(PICTURES)).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("model", ["openai/clip-of-nowhere", "/nowhere/clip"])
def test_a_missing_model_is_one_sentence_that_says_how_to_get_it(model: str) -> None:
    with pytest.raises(UserError, match=r"there is no such folder.*run `hf download ") as said:
        encoder(model)
    assert model in str(said.value)
    assert "\n" not in str(said.value)


def test_a_model_that_reads_no_images_is_refused(bert: Path) -> None:
    with pytest.raises(UserError, match="reads text and no images; name a CLIP model"):
        encoder(bert)


def test_none_encodes_nothing() -> None:
    with pytest.raises(UserError, match=r"pictures\.encoder is none"):
        make_encoder(Pictures())
