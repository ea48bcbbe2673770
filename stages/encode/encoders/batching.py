"""Batches of texts that fill their shape, and the devices on which they run."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from queue import SimpleQueue
from typing import Any, TypeVar

from stages.core.determinism import torch_device
from stages.core.log import UserError, get_logger
from stages.core.params import Encoder
from stages.encode.encoders.base import Kind

log = get_logger(__name__)

_STEP = 16
"""Lengths of batches of a fixed shape are multiples of so many tokens."""
_CPU_TOKENS = 384
"""Tokens in one of them on a CPU: more are hardly faster, and cost more to fill up."""
_GPU_ROWS, _GPU_TOKENS = 64, 64 * 512
"""Texts in one of them on a GPU, and at the most so many tokens, so that long ones fit too."""
SHAPES = (_STEP, _CPU_TOKENS, _GPU_ROWS, _GPU_TOKENS)
"""What decides the shapes: a part of the hash under which vectors are kept."""

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def rows_at_once(length: int, device: str) -> int:
    """Return how many texts of `length` tokens a batch of a fixed shape has.

    It decides the last bits of vectors that are kept by the model's hash, so it follows from
    `SHAPES`, which that hash holds, and from the kind of device.

    Args:
        length: of the batch.
        device: as torch names it.
    """
    if not device.startswith("cuda"):
        return max(_CPU_TOKENS // length, 2)
    return min(_GPU_ROWS, max(_GPU_TOKENS // length, 1))


def by_shape(
    lengths: Sequence[int], longest: int, rows: Callable[[int], int]
) -> list[tuple[int, list[int]]]:
    """Cut texts into batches of about the same length, in the order in which lengths first come.

    Where nothing is padded attention runs without a mask, by another kernel that rounds otherwise.
    So a text is shorter than its batch, but for those of `longest` tokens, which are put apart.

    Args:
        lengths: tokens of each text.
        longest: the most tokens that are read.
        rows: gives for a batch's length how many texts it has at the most.

    Returns:
        for each batch its length, a multiple of `SHAPES[0]` or `longest`, and its texts' positions.
    """
    positions: dict[tuple[int, bool], list[int]] = {}
    for position, tokens in enumerate(lengths):
        length = min((tokens // _STEP + 1) * _STEP, longest)
        positions.setdefault((length, tokens >= length), []).append(position)
    return [
        (length, alike[start : start + rows(length)])
        for (length, _), alike in positions.items()
        for start in range(0, len(alike), rows(length))
    ]


def filled(batch: list[int], rows: int) -> list[int]:
    """Repeat the first of a batch until it has so many rows."""
    return batch + batch[:1] * (rows - len(batch))


@contextmanager
def in_memory(params: Encoder, kind: Kind, fixed_shape: bool) -> Iterator[None]:
    """Have texts encoded; where they do not fit into a GPU, say which parameter decides that.

    Args:
        params: of the encoder.
        kind: of the texts.
        fixed_shape: whether batches have as many texts as `rows_at_once` says.

    Raises:
        UserError: a batch, or a copy of the model, does not fit.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        lower = f"encoder.batch_size, here {params.batch_size}"
        if fixed_shape or params.batch_size == 1:
            name = "max_query_length" if kind == "query" else "max_doc_length"
            lower = (
                f"encoder.{name} to under {min(getattr(params, name), _GPU_TOKENS // _GPU_ROWS)}"
            )
        # "CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has ...", a paragraph.
        reason = ". ".join(str(error).split(". ")[:2])
        raise UserError(
            f"{reason}; lower {lower}, or name GPUs with more free memory in encoder.gpus"
        ) from error


def devices(gpus: Sequence[int]) -> list[str]:
    """Return the devices that encode: these GPUs, all where none is named, or the CPU.

    GPUs that are not there, as where a bundle has moved, are left out with a line in the log.
    """
    if torch_device() == "cpu":
        if gpus:
            log.info("encoder.gpus %s: there is no CUDA here, the CPU encodes", list(gpus))
        return ["cpu"]
    import torch

    there = range(torch.cuda.device_count())
    missing = sorted(set(gpus) - set(there))
    if missing:
        log.warning("encoder.gpus: no GPU %s here, but %d", missing, len(there))
    return [f"cuda:{gpu}" for gpu in gpus if gpu in there] or [f"cuda:{gpu}" for gpu in there]


class Copies:
    """A model on several devices; all but the first are copied when there is work for them.

    Each device is driven by one thread: while it computes, Python is free to drive the others.
    """

    def __init__(self, model: Any, devices: Sequence[str]) -> None:
        """Take a model that is on the first of the devices."""
        self.models = [model]
        self._devices = list(devices)

    def map(self, work: Callable[[Any, Batch], Result], batches: Sequence[Batch]) -> list[Result]:
        """Give each batch to a copy that is free; results are in the order of the batches."""
        if len(batches) < 2 or len(self._devices) < 2:
            return [work(self.models[0], batch) for batch in batches]
        for device in self._devices[len(self.models) :]:
            self.models.append(deepcopy(self.models[0]).to(device))
        free: SimpleQueue[Any] = SimpleQueue()
        for model in self.models:
            free.put(model)

        def run(batch: Batch) -> Result:
            model = free.get()
            try:
                return work(model, batch)
            finally:
                free.put(model)

        with ThreadPoolExecutor(len(self.models)) as pool:
            return list(pool.map(run, batches))
