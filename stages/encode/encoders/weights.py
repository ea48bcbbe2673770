"""Where a model's files lie: in a folder, in the hub's cache, or on the hub; never in another's."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

from stages.core.log import UserError

_NOT_READ = [
    *("onnx/*", "openvino/*", "imgs/*", "*.onnx", "*.gguf"),
    *("tf_model.h5", "flax_model.msgpack", "rust_model.ot"),
]
"""Files of a hub's model that PyTorch does not read: the same weights in other forms, pictures."""
_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a text begins that Git LFS leaves in place of a file that it did not fetch."""


def model_folder(name: str, parameter: str, parts: Sequence[str] = ()) -> Path:
    """Return the folder with a model's files, fetched from the hub where it is a name there.

    A hub that does not answer is asked once; what is in its cache is then taken as it is.

    Args:
        name: a folder, or a name on the Hugging Face hub.
        parameter: what named it, for the message.
        parts: files that must be there, beside the configuration and the weights.

    Raises:
        UserError: it is nowhere, or files are missing from it.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(name, parameter)
    missing = [part for part in parts if not (folder / part).is_file()]
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        missing.insert(0, "config.json")
    if missing:
        raise UserError(
            f"{parameter} {name!r} is not whole: {folder} lacks {', '.join(missing)}; "
            f"{_how_to_get(name)}"
        )
    return folder


def silent_off_terminals() -> None:
    """Switch off the bars of the libraries that load models where no terminal shows them."""
    from huggingface_hub.utils import disable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    if not sys.stderr.isatty():
        disable_progress_bars()
        disable_progress_bar()


@contextmanager
def loading(name: str, folder: Path, parameter: str) -> Iterator[None]:
    """Say in one sentence why a model that is there is none, and how to get one.

    Args:
        name: as `model_folder` takes it.
        folder: what `model_folder` returned.
        parameter: what named it, for the message.

    Raises:
        UserError: a file of it is broken or cut short, or memory is too small for it.
    """
    import torch
    from safetensors import SafetensorError

    broken = (OSError, ValueError, RuntimeError, EOFError, UnpicklingError, SafetensorError)
    try:
        yield
    except Exception as error:
        # The library tokenizers raises Exception itself.
        if not isinstance(error, broken) and type(error) is not Exception:
            raise
        if isinstance(error, torch.OutOfMemoryError):
            reason, remedy = str(error).strip().split("\n")[0], "free memory there"
        else:
            reason, remedy = _reason(folder, error), _how_to_get(name)
        raise UserError(
            f"{parameter} {name!r} could not be loaded from {folder} ({reason}); {remedy}"
        ) from error


def _reason(folder: Path, error: Exception) -> str:
    """Return what is wrong with a model's files: what libraries say of a pointer misleads."""
    from huggingface_hub.utils import filter_repo_objects

    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    read = sorted(filter_repo_objects(names, ignore_patterns=_NOT_READ))
    pointers = [name for name in read if _is_pointer(folder / name)]
    if pointers:
        return f"Git LFS did not fetch {', '.join(pointers)}"
    said = str(error).strip().split("\n")[0].partition(". ")[0].rstrip(".:")
    return said or "a file ends too soon"


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:  # Which is then what the library says.
        return False


def _from_hub(name: str, parameter: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, ignore_patterns=_NOT_READ))
    except HFValidationError:
        reason = "there is no such folder, and no model on the hub can have that name"
    except LocalEntryNotFoundError:
        reason = (
            "there is no such folder, it is not in the hub's cache "
            f"(HF_HOME, here {constants.HF_HOME}), and the hub does not answer"
        )
    except HfHubHTTPError as error:
        told = str(error).strip().split("\n")[-1]
        reason = f"there is no such folder, and the hub refuses it ({told})"
    raise UserError(f"{parameter} {name!r}: {reason}; {_how_to_get(name)}")


def _how_to_get(name: str) -> str:
    hub_name = name if name.count("/") == 1 and name[0] not in "./~" else "NAME"
    return (
        f"where there is a network run `hf download {hub_name} --local-dir FOLDER`, copy FOLDER "
        "here and name it"
    )
