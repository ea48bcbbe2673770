"""Any server that speaks the OpenAI chat completions protocol: vLLM, Ollama, llama.cpp, OpenAI."""

from collections.abc import Callable, Sequence
from typing import Any

from stages.core.params import Llm
from stages.enrich.llm.base import Conversation, Reply


class OpenaiServer:
    """Asks `llm.concurrency` conversations at once, one request each.

    A server that has not answered after all tries ends the run. A prompt that the server refuses to
    take (too long for the model, say) is recorded and the run goes on.
    """

    def __init__(self, settings: Llm) -> None:
        self.model = settings.model
        self.max_tokens = settings.max_tokens
        self._settings = settings

    def load(self) -> None:
        """Have Ollama load the model for `llm.keep_alive`; any other server has loaded its own."""
        if self._settings.keep_alive is not None:
            from stages.enrich.llm.chat import keep_alive

            keep_alive(self._settings)

    def answer(
        self,
        conversations: Sequence[Conversation],
        schema: dict[str, Any],
        max_tokens: int,
        take: Callable[[int, Reply], None],
    ) -> None:
        """Answer all; see `Backend.answer`."""
        from stages.enrich.llm.chat import complete_all

        complete_all(self._settings, conversations, schema, max_tokens, take)
