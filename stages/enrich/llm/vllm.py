"""vLLM inside this process: the whole batch is handed over, and vLLM schedules it on the GPUs."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.core.log import UserError, get_logger
from stages.core.params import Llm
from stages.enrich.llm.base import SMALLEST, Conversation, Reply, ending_problem, readable
from stages.enrich.llm.weights import folder_hash

log = get_logger(__name__)

_CPU_CACHE_BYTES = 4 * 1024**3
"""Attention cache without a GPU, where vLLM would else take nearly all of the machine's memory."""


class InProcessVllm:
    """Answers `llm.batch_size` conversations a call; the model is loaded before the first one.

    Replies of a batch are taken when all of it is answered, so a larger batch is faster and a
    kill costs more.
    """

    def __init__(self, settings: Llm) -> None:
        self.model = settings.model
        self.max_tokens = settings.max_tokens
        self.retries = Counter[str]()  # Nothing is sent, so nothing is sent again.
        self._settings = settings
        self._engine: Any = None
        self._has_answered = False

    @cached_property
    def identity(self) -> str:
        """The model's name on the hub, or the hash of its folder."""
        folder = Path(self.model).expanduser()
        return folder_hash(folder) if folder.is_dir() else self.model

    def load(self) -> None:
        """Load the model, unless it is loaded; see `Backend.load`."""
        if self._engine is None:
            self._engine = self._loaded()

    def answer(
        self,
        conversations: Sequence[Conversation],
        schema: dict[str, Any],
        max_tokens: int,
        take: Callable[[int, Reply], None],
    ) -> None:
        """Answer all; see `Backend.answer`."""
        self.load()
        size = self._settings.batch_size
        for start in range(0, len(conversations), size):
            batch = conversations[start : start + size]
            for offset, reply in enumerate(self._chat(batch, schema, max_tokens)):
                take(start + offset, reply)

    def _loaded(self) -> Any:
        gpus = self._settings.gpus
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in gpus)
        try:
            import torch
            from vllm import LLM
        except ImportError as error:
            raise UserError(
                f"backend vllm needs the package vllm ({error}); install it with "
                "`pip install -c constraints.txt -e '.[vllm]'`, or use backend openai with a server"
            ) from error
        found = torch.cuda.device_count()
        log.info("loading %s", self.model)
        try:
            return LLM(
                model=self.model,
                tensor_parallel_size=len(gpus) or max(1, found),
                kv_cache_memory_bytes=None if found else _CPU_CACHE_BYTES,
                # As much context as fits into the memory: prompts here are short.
                max_model_len=-1,
                # Else a model held to JSON may fill its answer with line breaks.
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
                seed=0,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"vLLM cannot load {self.model!r} ({error}); correct llm.model (a name on the "
                "Hugging Face hub or a folder) and llm.gpus"
            ) from error

    def _chat(
        self, batch: Sequence[Conversation], schema: dict[str, Any], max_tokens: int
    ) -> list[Reply]:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import StructuredOutputsParams

        sampling = SamplingParams(
            temperature=0,
            max_tokens=max_tokens,
            structured_outputs=StructuredOutputsParams(json=schema),
        )
        try:
            outputs = self._engine.chat(list(batch), sampling, use_tqdm=False)
        except (VLLMClientError, ValueError) as error:
            # One prompt that is too long refuses the batch before any is answered: halve it.
            said = " ".join(str(error).split())[:200]
            if list(batch) == [SMALLEST]:
                raise UserError(
                    f"{self.model!r} in vLLM answers no prompt at all ({said})"
                ) from error
            if len(batch) > 1:
                middle = len(batch) // 2
                halves = batch[:middle], batch[middle:]
                return [reply for half in halves for reply in self._chat(half, schema, max_tokens)]
            checked = Reply(None)
            if not self._has_answered:
                (checked,) = self._chat([SMALLEST], schema, self.max_tokens)
            return [replace(checked, text=None, problem=readable(f"rejected: {said}"))]
        except Exception as error:  # What ends an engine has no class of its own.
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(
                f"vLLM ended in a batch of {len(batch)} ({said}); lower llm.batch_size "
                "or use a smaller model, and run the stage again: earlier batches are kept"
            ) from error
        self._has_answered = True
        answers = [(output, output.outputs[0]) for output in outputs]
        return [
            Reply(
                readable(answer.text),
                ending_problem(answer.finish_reason, max_tokens),
                tokens_in=len(output.prompt_token_ids or ()),
                tokens_out=len(answer.token_ids),
            )
            for output, answer in answers
        ]
