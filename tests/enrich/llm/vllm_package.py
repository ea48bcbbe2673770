"""Stands for the package vllm where it is not installed: one word a token, a short context."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

CONTEXT = 50


class Engine:
    """`vllm.LLM`, which takes all conversations of a call or, where one is too long, none.

    Attributes:
        chats: the conversations of each call, oldest first.
        ends_with: what it raises from the second call on, or None.
    """

    def __init__(self) -> None:
        self.chats: list[list[Any]] = []
        self.ends_with: Exception | None = None

    def chat(self, conversations: list[Any], *_: Any, **__: Any) -> list[SimpleNamespace]:
        self.chats.append(conversations)
        if self.ends_with is not None and len(self.chats) > 1:
            raise self.ends_with
        prompts = [" ".join(turn["content"] for turn in one).split() for one in conversations]
        if longest := max((len(prompt) for prompt in prompts if len(prompt) > CONTEXT), default=0):
            raise ValueError(f"the prompt is of {longest} tokens, over {CONTEXT}")
        answer = SimpleNamespace(text='{"words": []}', finish_reason="stop", token_ids=[1, 2])
        return [SimpleNamespace(prompt_token_ids=p, outputs=[answer]) for p in prompts]


def install(patch: pytest.MonkeyPatch) -> None:
    """Let `import vllm` find the names that the backend takes from it."""
    package, exceptions, sampling = (
        ModuleType(name) for name in ("vllm", "vllm.exceptions", "vllm.sampling_params")
    )
    settings = type("Settings", (SimpleNamespace,), {})
    vars(package).update(SamplingParams=settings, __path__=[])
    vars(exceptions).update(VLLMClientError=type("VLLMClientError", (Exception,), {}))
    vars(sampling).update(StructuredOutputsParams=settings)
    for module in (package, exceptions, sampling):
        patch.setitem(sys.modules, module.__name__, module)
