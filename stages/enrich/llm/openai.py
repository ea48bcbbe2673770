"""Any server that speaks the OpenAI chat completions protocol: vLLM, Ollama, llama.cpp, OpenAI."""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stages.core.log import UserError
from stages.core.params import Llm
from stages.enrich.llm.base import SMALLEST, Conversation, Reply, ending_problem, readable
from stages.enrich.llm.openai_errors import explain, is_missing_in_ollama, said

_BELIEVED = 100
"""Prompts that a server may refuse one after another until it must show again that it answers."""


@dataclass
class _Round:
    """One call of `OpenaiServer.answer`.

    Attributes:
        client: of the server.
        waiting: positions and conversations that nobody has sent yet.
        schema: that the model is held to.
        max_tokens: the longest answer.
        take: what becomes of replies.
        checking: asyncio.Lock, held by who asks whether the server answers at all.
        errors: that end the round, oldest first; once there is one, nothing more is sent.
    """

    client: Any
    waiting: deque[tuple[int, Conversation]]
    schema: dict[str, Any]
    max_tokens: int
    take: Callable[[int, Reply], None]
    checking: Any
    errors: list[Exception] = field(default_factory=list)


class OpenaiServer:
    """Asks `llm.concurrency` conversations at once, one request each.

    A connection error, a timeout, 408, 409, 429 and 5xx are tried again `llm.max_retries` times,
    when Retry-After says or else after half a second, twice as long each time up to 8 seconds, less
    up to a quarter of it by chance. A server that then has still not answered ends the run, and one
    whose Retry-After is over two minutes does so at once. A prompt that the server refuses to
    take (too long for the model, say), or does not answer in time, is recorded and the run goes on,
    once the server is known to answer others.
    """

    def __init__(self, settings: Llm) -> None:
        self.model = settings.model
        self.max_tokens = settings.max_tokens
        self.retries = Counter[str]()
        self._settings = settings
        self._answered_at = 0.0
        self._refused = _BELIEVED  # In a row; of a server not heard yet nothing is believed.

    @property
    def identity(self) -> str:
        """The model's name, which is all that a server is asked by."""
        return self.model

    def load(self) -> None:
        """Have Ollama load the model for `llm.keep_alive`; any other server has loaded its own.

        Its OpenAI endpoint takes no `keep_alive` and leaves the time as the last native request set
        it, so a native request without a prompt, which only loads the model, sets it.
        """
        import asyncio

        if self._settings.keep_alive is not None:
            asyncio.run(self._keep_alive())

    def answer(
        self,
        conversations: Sequence[Conversation],
        schema: dict[str, Any],
        max_tokens: int,
        take: Callable[[int, Reply], None],
    ) -> None:
        """Answer all; see `Backend.answer`."""
        import asyncio

        asyncio.run(self._answer_all(conversations, schema, max_tokens, take))

    def _client(self) -> Any:
        import openai

        from stages.enrich.llm.openai_retries import CountingConnection

        return openai.AsyncOpenAI(
            base_url=self._settings.base_url,
            api_key=os.environ.get(self._settings.api_key_env) or "none",
            timeout=self._settings.timeout_s,
            max_retries=self._settings.max_retries,
            http_client=CountingConnection(self.retries),
        )

    async def _keep_alive(self) -> None:
        import openai

        url = self._settings.base_url.rstrip("/").removesuffix("/v1") + "/api/generate"
        body = {"model": self.model, "keep_alive": self._settings.keep_alive, "stream": False}
        async with self._client() as client:
            try:
                await client.post(url, body=body, cast_to=object)
            except openai.NotFoundError as error:
                if is_missing_in_ollama(error):
                    raise explain(error, self._settings) from error
                raise UserError(
                    f"the language model server knows no {url} ({said(error)}), so it is not "
                    "Ollama, and llm.keep_alive is for Ollama alone; let it be null"
                ) from error
            except openai.OpenAIError as error:
                raise explain(error, self._settings) from error

    async def _answer_all(
        self,
        conversations: Sequence[Conversation],
        schema: dict[str, Any],
        max_tokens: int,
        take: Callable[[int, Reply], None],
    ) -> None:
        import asyncio

        async with self._client() as client:
            waiting = deque(enumerate(conversations))
            one = _Round(client, waiting, schema, max_tokens, take, asyncio.Lock())
            workers = min(self._settings.concurrency, len(conversations))
            # What is under way when one fails is paid for, so it is waited for and kept.
            await asyncio.gather(*(self._work(one) for _ in range(workers)))
        if one.errors:
            raise one.errors[0]

    async def _work(self, one: _Round) -> None:
        try:
            while one.waiting and not one.errors:
                position, conversation = one.waiting.popleft()
                one.take(position, await self._reply(one, conversation))
        except Exception as error:
            one.errors.append(error)

    async def _reply(self, one: _Round, conversation: Conversation) -> Reply:
        import openai

        sent = time.monotonic()
        try:
            return await self._complete(one, conversation, one.max_tokens)
        except (openai.OpenAIError, ValueError) as error:
            problem = self._fault_of_prompt(error)
            if problem is None:
                raise explain(error, self._settings) from error
            may_be_broken = isinstance(error, openai.APITimeoutError | openai.InternalServerError)
            try:
                checked = await self._check(one, sent, may_be_broken)
            except (openai.OpenAIError, ValueError) as also:
                raise explain(also, self._settings) from error
            return replace(checked, text=None, problem=readable(problem))

    def _fault_of_prompt(self, error: Exception) -> str | None:
        """Return what may be wrong with a prompt alone; null where it is surely the server."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            return f"timeout: no answer within {self._settings.timeout_s:g} s (llm.timeout_s)"
        if isinstance(error, openai.APIStatusError) and error.status_code in {400, 413, 422, 500}:
            return f"rejected: {said(error)}"
        return None

    async def _check(self, one: _Round, sent: float, may_be_broken: bool) -> Reply:
        """Return what it cost to see that the server answers, after what was sent then failed.

        An answer that came since tells it. So does any that came before, where the server found
        fault with the prompt, and not where it may itself have broken. Else it is asked `SMALLEST`,
        by one worker for all who wait.
        """
        async with one.checking:
            if one.errors:
                raise one.errors[0]
            believed = not may_be_broken and self._refused < _BELIEVED
            checked = Reply(None)
            if not believed and self._answered_at <= sent:
                checked = await self._complete(one, SMALLEST, self.max_tokens)
            self._refused += 1
            return checked

    async def _complete(self, one: _Round, conversation: Conversation, max_tokens: int) -> Reply:
        completion = await one.client.chat.completions.create(
            model=self.model,
            messages=conversation,
            temperature=0,
            max_tokens=max_tokens,
            # Not "strict": OpenAI's strict mode knows no maxLength; vLLM and Ollama always are.
            response_format={
                "type": "json_schema",
                "json_schema": {"name": one.schema.get("title", "answer"), "schema": one.schema},
            },
        )
        choices = getattr(completion, "choices", None)
        if not choices:
            raise ValueError(f"it answered {str(completion)[:80]!r}")
        self._answered_at, self._refused = time.monotonic(), 0
        message, ending = choices[0].message, choices[0].finish_reason
        refusal = getattr(message, "refusal", None)
        problem = f"refusal: {refusal[:200]}" if refusal else ending_problem(ending, max_tokens)
        usage = getattr(completion, "usage", None)
        return Reply(
            readable(_text(getattr(message, "content", None))),
            readable(problem) if problem else None,
            tokens_in=getattr(usage, "prompt_tokens", None) or 0,
            tokens_out=getattr(usage, "completion_tokens", None) or 0,
        )


def _text(content: Any) -> str:
    """Return what a message holds: a text, parts of one, or nothing; servers differ."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
