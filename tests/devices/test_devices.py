"""The CPU and a GPU give the same answers, within rounding; and the CPU the same bytes again.

`make test-gpu` runs this with a GPU. Without one the same programs run on the CPU alone.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.core.storage import read_json
from stages.encode.encoders import load_encoder
from stages.encode.encoders.batching import Copies
from stages.encode.encoders.bge_m3 import BgeM3Encoder
from tests.devices.answers import RETRIEVERS, TEXTS, arrays, device_of, frame
from tests.encode import tiny_models
from tests.encode.tiny_models import settings
from tests.retrieve.conftest import OWN

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
ROOT = Path(__file__).parent.parent.parent
MODELS = ("sentence_transformers", "bge_m3")


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of answers of a device, computed once in a process of its own."""
    made: dict[str, Path] = {}

    def of(device: str) -> Path:
        if device not in made:
            made[device] = tmp_path_factory.mktemp("answers")
            hidden = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
            done = subprocess.run(
                [sys.executable, "-m", "tests.devices.answers", str(made[device])],
                cwd=ROOT,
                env=os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} | hidden,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-4000:]
        return made[device]

    return of


@pytest.fixture(params=["cpu again", "cuda"])
def both(request: pytest.FixtureRequest, answers: Callable[[str], Path]) -> tuple[Path, Path]:
    """Answers of the CPU, and of another device or of the CPU in another process."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    here, there = answers("cpu"), answers(request.param)
    assert device_of(here) == "cpu"
    assert device_of(there) == request.param.removesuffix(" again")
    return here, there


def tolerance(folder: Path, on_cuda: float) -> float:
    """What two devices may differ by; one and the same may not."""
    return on_cuda if device_of(folder) == "cuda" else 0


@pytest.mark.parametrize("model", MODELS)
def test_vectors_are_the_same(both: tuple[Path, Path], model: str) -> None:
    here, there = (np.load(folder / f"{model}.npz") for folder in both)
    assert here.files == there.files
    for output in here.files:
        # Vectors a token are float16, of which one step is 2 ** -11 of the number.
        on_cuda = 1e-3 if output == "multi" else 1e-4
        np.testing.assert_allclose(
            there[output], here[output], 0, tolerance(both[1], on_cuda), err_msg=output
        )


def test_half_precision_is_near(both: tuple[Path, Path]) -> None:
    full, half = np.load(both[0] / "bge_m3.npz"), np.load(both[1] / "bge_m3-bf16.npz")
    assert (full["dense"] * half["dense"]).sum(axis=1).min() > 0.99
    assert np.median((full["multi"] * half["multi"]).sum(axis=1)) > 0.99
    assert ((full["sparse"] > 0) == (half["sparse"] > 0)).all()
    np.testing.assert_allclose(half["sparse"], full["sparse"], 0, 0.1)
    assert np.abs(half["dense"] - full["dense"]).max() > 1e-6  # it was computed in half


@pytest.mark.parametrize("model", [*MODELS, "bge_m3-bf16"])
def test_a_text_has_the_same_bits_alone(both: tuple[Path, Path], model: str) -> None:
    together, alone = (np.load(both[1] / f"{model}{end}.npz") for end in ("", "-alone"))
    assert alone["dense"].tobytes() == together["dense"][5:6].tobytes()
    if "sparse" in alone.files:
        assert alone["sparse"].tobytes() == together["sparse"][5:6].tobytes()


@pytest.mark.parametrize("name", RETRIEVERS)
def test_retrievers_find_the_same_with_the_same_scores(both: tuple[Path, Path], name: str) -> None:
    here, there = (frame(folder, name) for folder in both)
    key = ["query_id", "item_id"]
    assert here.select(key).equals(there.select(key))
    difference = (here["score"] - there["score"]).abs().max()
    assert isinstance(difference, float)
    assert difference <= tolerance(both[1], 2e-3)


def test_two_towers_learn_on_either(both: tuple[Path, Path]) -> None:
    for folder in both:
        found = frame(folder, "two_tower").sort("query_id")
        assert found["query_id"].n_unique() == found.height == len(OWN)
        right = [item == f"i{n:02d}" for n, item in enumerate(found["item_id"])]
        assert sum(right) >= len(OWN) - 2


def test_what_was_tuned_on_either_is_better_and_answers_here(both: tuple[Path, Path]) -> None:
    for folder in both:
        tuned = folder / "finetune"
        metrics = read_json(tuned / "metrics.json")
        assert metrics["kept"] == "tuned"
        assert metrics["steps"] > 0
        expected = np.load(tuned / "answers.npz")
        found = arrays(
            load_encoder(tuned / "tuned").encode(TEXTS, "document", fixed_shape=True, multi=True)
        )
        assert sorted(found) == sorted(expected.files)
        for output in expected.files:
            np.testing.assert_allclose(found[output], expected[output], 0, 1e-4)


def test_copies_on_every_gpu_give_the_same_bits(tmp_path: Path) -> None:
    """On one GPU two copies share it."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = tiny_models.bge_m3(tmp_path)
    params = settings(model, "bge_m3", multi_vector=True, precision="fp16", gpus=[0])
    encoder = BgeM3Encoder(params)
    alone = arrays(encoder.encode(TEXTS * 20, "document", fixed_shape=True, multi=True))
    count = torch.cuda.device_count()
    on = [f"cuda:{gpu}" for gpu in range(count)] if count > 1 else ["cuda:0", "cuda:0"]
    encoder._copies = Copies(encoder._copies.models[0], on)
    spread = arrays(encoder.encode(TEXTS * 20, "document", fixed_shape=True, multi=True))
    assert len(encoder._copies.models) == len(on)
    for output, expected in alone.items():
        assert spread[output].tobytes() == expected.tobytes(), output
