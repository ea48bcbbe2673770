"""Chat completions as OpenAI has them, and how Ollama is told to keep its model."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stages.core.log import UserError
from stages.core.params import Llm
from stages.enrich.llm.base import SMALLEST, Conversation, Reply, ending_problem, readable
from stages.enrich.llm.http import Client, Failure

_MAY_BE_THE_PROMPT = {400, 413, 422, 500}
_KEPT = "what was answered so far is kept"

_OLLAMA_MISSES = re.compile(r"model ['\"\\]+\S+ not found")
"""Ollama's words for a model that was not pulled, with either of its kinds of quotation marks."""


def complete_all(
    settings: Llm,
    conversations: Sequence[Conversation],
    schema: dict[str, Any],
    max_tokens: int,
    take: Callable[[int, Reply], None],
) -> None:
    """Answer all, several at once; see `Backend.answer`."""

    async def work(client: Client, waiting: Iterator[tuple[int, Conversation]]) -> None:
        for position, conversation in waiting:
            take(position, await _reply(client, settings, conversation, schema, max_tokens))

    async def work_together() -> None:
        async with _client(settings) as client:
            waiting = enumerate(conversations)
            workers = min(settings.concurrency, len(conversations))
            await asyncio.gather(*(work(client, waiting) for _ in range(workers)))

    asyncio.run(work_together())


def keep_alive(settings: Llm) -> None:
    """Have Ollama load the model, to be held in memory for `llm.keep_alive` after each request.

    Its OpenAI endpoint takes no such time and leaves it as the last native request set it, so one
    without a prompt, which only loads the model, sets it.

    Raises:
        UserError: there is no such model, or the server is not Ollama.
    """
    url = settings.base_url.rstrip("/").removesuffix("/v1") + "/api/generate"
    body = {"model": settings.model, "keep_alive": settings.keep_alive, "stream": False}

    async def load() -> None:
        async with _client(settings) as client:
            await client.post(url, body)

    try:
        asyncio.run(load())
    except Failure as failure:
        if failure.status == 404 and not _OLLAMA_MISSES.search(failure.said):
            raise UserError(
                f"the language model server knows no {url} ({failure.said}), so it is not Ollama, "
                "and llm.keep_alive is for Ollama alone; let it be null"
            ) from failure
        raise _explain(failure, settings) from failure


def _client(settings: Llm) -> Client:
    key = os.environ.get(settings.api_key_env, "").strip() or "none"
    return Client(key, settings.concurrency, settings.timeout_s, settings.max_retries)


async def _reply(
    client: Client,
    settings: Llm,
    conversation: Conversation,
    schema: dict[str, Any],
    max_tokens: int,
) -> Reply:
    try:
        return await _complete(client, settings, conversation, schema, max_tokens)
    except Failure as failure:
        if failure.status not in _MAY_BE_THE_PROMPT:
            raise _explain(failure, settings) from failure
        try:
            await _complete(client, settings, SMALLEST, schema, settings.max_tokens)
        except Failure as also:
            raise _explain(also, settings) from failure
        return Reply(None, readable(f"rejected: {failure.said}"))


async def _complete(
    client: Client,
    settings: Llm,
    conversation: Conversation,
    schema: dict[str, Any],
    max_tokens: int,
) -> Reply:
    body = {
        "model": settings.model,
        "messages": conversation,
        "temperature": 0,
        "max_tokens": max_tokens,
        # Not "strict": OpenAI's strict mode knows no maxLength; vLLM and Ollama always are.
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": schema.get("title", "answer"), "schema": schema},
        },
    }
    completion = await client.post(f"{settings.base_url.rstrip('/')}/chat/completions", body)
    try:
        choice, usage = completion["choices"][0], completion.get("usage") or {}
        message, ending = choice["message"], choice.get("finish_reason")
        refusal, content = message.get("refusal"), readable(message.get("content") or "")
    except (LookupError, TypeError, AttributeError) as error:
        raise Failure("foreign", f"it answered {str(completion)[:80]!r}") from error
    problem = f"refusal: {refusal[:200]}" if refusal else ending_problem(ending, max_tokens)
    return Reply(
        content,
        readable(problem) if problem else None,
        tokens_in=usage.get("prompt_tokens") or 0,
        tokens_out=usage.get("completion_tokens") or 0,
    )


def _explain(failure: Failure, settings: Llm) -> UserError:
    """Say in one sentence what is wrong with the server and what to do."""
    said, status = readable(failure.said), failure.status
    tries = f"after {settings.max_retries + 1} tries" if settings.max_retries else "at one try"
    if failure.kind == "slow":
        wrong = f"gave no answer within {settings.timeout_s:g} s {tries}"
        remedy = "raise llm.timeout_s or lower llm.concurrency"
    elif failure.kind == "away":
        wrong = f"cannot be reached {tries} ({said})"
        remedy = "start the server or correct llm.base_url"
    elif failure.kind == "foreign":
        wrong = f"does not speak the OpenAI protocol ({said})"
        remedy = "correct llm.base_url, which mostly ends in /v1"
    elif status in (401, 403):
        wrong = f"does not accept the key ({said})"
        remedy = f"put one into the environment variable {settings.api_key_env}"
    elif status == 404 and _OLLAMA_MISSES.search(said):
        wrong = f"does not hold the model {settings.model!r} ({said})"
        remedy = f"run `ollama pull {settings.model}` where the server is, or correct llm.model"
    elif status == 404:
        wrong = f"does not know the model {settings.model!r} or the path ({said})"
        remedy = "correct llm.model or llm.base_url, which mostly ends in /v1"
    elif status == 429:
        wrong = f"refuses further requests {tries} ({said})"
        remedy = "wait, lower llm.concurrency or raise llm.max_retries"
    else:
        wrong = f"fails {tries if failure.may_pass else 'at once'} ({said})"
        remedy = "look into its log, then run the stage again"
    return UserError(f"the language model server {settings.base_url} {wrong}; {remedy}; {_KEPT}")
