"""Seeds and devices: the same inputs give the same bytes."""

import random
from typing import Any, Literal

import numpy as np

Precision = Literal["fp32", "bf16", "fp16"]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; ask torch for deterministic kernels, warn where none is."""
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that we call draw from the global state
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Only an aid against reading uninitialised memory, and it makes training several times slower.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010


def torch_device() -> str:
    """Return "cuda" where a GPU answers, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def precision_of(name: Precision | Literal["auto"], device: str) -> Precision:
    """Return `name`, or what "auto" comes to.

    That is bf16 on CUDA that has it, fp16 on older CUDA, fp32 on the CPU.
    """
    import torch

    if name != "auto":
        return name
    if device != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def torch_dtype(name: Precision) -> Any:
    """Return the torch dtype of this precision."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def cpu_has_bf16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    import torch

    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
