"""Seeds and devices: the same inputs give the same bytes."""

import random
from typing import Any

import numpy as np


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


def torch_dtype(name: str, device: str) -> Any:
    """Return the torch dtype for `name`.

    "auto" is bfloat16 on CUDA that has it, float16 on older CUDA, float32 on the CPU.
    """
    import torch

    if name == "auto":
        if device != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def cpu_has_bf16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    import torch

    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
