"""A model that is not there, or not whole, is said in one sentence, at once, and never replaced."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.core.log import UserError
from stages.core.params import Encoder, Pictures
from stages.encode.encoders import load_encoder
from stages.encode.encoders.sentence_transformers import load_model
from stages.encode.encoders.weights import loading, model_folder
from stages.encode.imaging.base import make_encoder
from tests.encode.tiny_models import settings

KINDS = ["bge_m3", "sentence_transformers", "clip"]
LACKS = {
    "bge_m3": "config.json, colbert_linear.pt, sparse_linear.pt",
    "sentence_transformers": "config.json",
    "clip": "config.json",
}
ROOT = Path(__file__).parent.parent.parent.parent


def open_model(kind: str, name: str) -> object:
    if kind == "clip":
        return make_encoder(Pictures(encoder="clip", model=name))
    if kind == "tuning":
        return load_model(Encoder.model_validate({"kind": "bge_m3", "model": name}))
    return load_encoder(Encoder.model_validate({"kind": kind, "model": name}))


def parameter(kind: str) -> str:
    return "pictures.model" if kind == "clip" else "encoder.model"


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_is_not_there(kind: str, tmp_path: Path) -> None:
    name = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no such folder") as told:
        open_model(kind, name)
    assert str(told.value).startswith(f"{parameter(kind)} {name!r}: ")
    assert "`hf download NAME --local-dir FOLDER`" in str(told.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_folder(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"is not whole: \S+ lacks {LACKS[kind]}; where there"):
        open_model(kind, str(tmp_path))


def test_a_gpu_without_room_for_a_model_is_no_reason_to_fetch_it_again() -> None:
    import torch

    folder = Path("mine")
    with pytest.raises(UserError) as told, loading("mine", folder, "encoder.model"):
        raise torch.OutOfMemoryError("CUDA out of memory.\nSee more")
    assert str(told.value) == (
        "encoder.model 'mine' could not be loaded from mine (CUDA out of memory.); "
        "free memory there"
    )


@pytest.mark.parametrize("head", ["colbert_linear.pt", "sparse_linear.pt"])
def test_bge_m3_without_a_head(head: str, bge_m3: Path, tmp_path: Path) -> None:
    """FlagEmbedding would draw it at random and go on."""
    folder = shutil.copytree(bge_m3, tmp_path / "model")
    (folder / head).unlink()
    for load in (load_encoder, load_model):
        with pytest.raises(UserError, match=f"lacks {head};"):
            load(settings(folder, kind="bge_m3"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_without_weights(kind: str, bge_m3: Path, clip: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(clip if kind == "clip" else bge_m3, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="could not be loaded") as told:
        open_model(kind, str(folder))
    assert "\n" not in str(told.value)


def pointer(path: Path) -> None:
    """What a clone without Git LFS leaves in place of a file."""
    path.write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{'5' * 64}\nsize {path.stat().st_size}\n"
    )


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def as_pickle(folder: Path) -> None:
    """Keep the weights as BGE-M3 is published, in pytorch_model.bin."""
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


MADE = {"sentence_transformers": "bert", "tuning": "bge_m3"}
"""Models by what opens them, where the names differ."""
FILES = [
    *(("bge_m3", file) for file in ("colbert_linear.pt", "sparse_linear.pt", "pytorch_model.bin")),
    *((kind, "model.safetensors") for kind in (*KINDS, "tuning")),
    *((kind, "tokenizer.json") for kind in (*KINDS, "tuning")),
]


@pytest.mark.parametrize("breaking", [pointer, half, empty])
@pytest.mark.parametrize(("kind", "file"), FILES)
def test_a_broken_file(
    breaking: Callable[[Path], None],
    kind: str,
    file: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    model = request.getfixturevalue(MADE.get(kind, kind))
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    if file == "pytorch_model.bin":
        as_pickle(folder)
    breaking(folder / file)
    with pytest.raises(UserError) as told:
        open_model(kind, str(folder))
    said = str(told.value)
    begin = f"{parameter(kind)} {str(folder)!r} could not be loaded from {folder} ("
    assert said.startswith(begin)
    assert "run `hf download NAME --local-dir FOLDER`, copy FOLDER here and name it" in said
    reason = said.removeprefix(begin).partition("); ")[0]
    assert reason
    assert ". " not in reason
    assert "\n" not in said
    assert breaking is not pointer or reason == f"Git LFS did not fetch {file}"


@pytest.mark.parametrize("breaking", [pointer, half, empty])
@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_broken_file_of_a_static_model(
    breaking: Callable[[Path], None], file: str, static: Path, tmp_path: Path
) -> None:
    """Its tokenizer is of the library tokenizers, which raises Exception itself."""
    folder = Path(shutil.copytree(static, tmp_path / "model"))
    breaking(folder / file)
    with pytest.raises(UserError, match=f"could not be loaded from {folder} ") as told:
        load_model(settings(folder))
    assert "\n" not in str(told.value)


def test_a_pointer_that_is_not_read_is_not_blamed(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "model"))
    (folder / "model.onnx").touch()
    pointer(folder / "model.onnx")
    load_model(settings(folder))
    half(folder / "model.safetensors")
    with pytest.raises(UserError, match="could not be loaded") as told:
        load_model(settings(folder))
    assert "Git LFS" not in str(told.value)


def test_an_error_of_the_program_is_no_broken_file(bert: Path) -> None:
    with pytest.raises(TypeError, match="of ours"), loading("mine", bert, "encoder.model"):
        raise TypeError("of ours")


@pytest.mark.parametrize(
    "name", ["nobody/nothing", "nobody-nothing", "no/such/folder", "./x", "~/x"]
)
def test_a_name_that_is_nowhere(name: str) -> None:
    with pytest.raises(UserError, match="there is no such folder") as told:
        model_folder(name, "encoder.model")
    asked = "nobody/nothing" if name == "nobody/nothing" else "NAME"
    assert f"run `hf download {asked} --local-dir FOLDER`" in str(told.value)


def cached(home: Path, name: str, model: Path) -> None:
    """Put a model into a hub's cache as a download leaves it."""
    folder = home / "hub" / ("models--" + name.replace("/", "--"))
    shutil.copytree(model, folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")


def run_without_network(home: Path, code: str) -> tuple[str, float]:
    """Run code against a hub at which nobody listens; return what was said, and the seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": f"http://127.0.0.1:{port}"}
    environment |= {"HF_HUB_OFFLINE": "0", "CUDA_VISIBLE_DEVICES": ""}
    timed = f"import time; start = time.monotonic()\n{code}\nprint(time.monotonic() - start)"
    done = subprocess.run(
        [sys.executable, "-c", timed],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *said, seconds = done.stdout.strip().split("\n")
    return "\n".join(said), float(seconds)


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path: Path) -> None:
    code = """
from stages.core.log import UserError
from stages.encode.encoders.weights import model_folder
for name in ("BAAI/bge-m3", "openai/clip-vit-base-patch32"):
    try:
        model_folder(name, "encoder.model")
    except UserError as error:
        print(error)
"""
    said, seconds = run_without_network(tmp_path, code)
    first, second = said.split("\n")
    for told, name in ((first, "BAAI/bge-m3"), (second, "openai/clip-vit-base-patch32")):
        assert f"is not in the hub's cache (HF_HOME, here {tmp_path})" in told
        assert f"run `hf download {name} --local-dir FOLDER`" in told
    assert seconds < 10


def test_what_is_in_the_cache_is_taken_where_the_hub_does_not_answer(
    bge_m3: Path, tmp_path: Path
) -> None:
    cached(tmp_path, "some/model", bge_m3)
    code = """
from stages.core.params import Encoder
from stages.encode.encoders import load_encoder
print(load_encoder(Encoder(kind="bge_m3", model="some/model")).model_hash)
"""
    said, seconds = run_without_network(tmp_path, code)
    here = load_encoder(Encoder.model_validate({"kind": "bge_m3", "model": str(bge_m3)}))
    assert said.split("\n")[-1] == here.model_hash
    assert seconds < 60
