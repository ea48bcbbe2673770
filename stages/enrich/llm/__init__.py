"""Language models: two backends that answer in JSON of a given schema, and how they are asked."""

from stages.core.params import Llm
from stages.enrich.llm.base import Backend


def load_backend(name: str, settings: Llm) -> Backend:
    """Return the backend `openai` or `vllm`; nothing is loaded or connected before it is asked."""
    if name == "openai":
        from stages.enrich.llm.openai import OpenaiServer

        return OpenaiServer(settings)
    if name == "vllm":
        from stages.enrich.llm.vllm import InProcessVllm

        return InProcessVllm(settings)
    raise ValueError(f"{name!r} is no language model backend")
