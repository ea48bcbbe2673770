"""What went wrong with a server of the OpenAI protocol, and what to do, in one sentence."""

import re
from typing import Any

from stages.core.log import UserError
from stages.core.params import Llm

_KEPT = "what was answered so far is kept"

_OLLAMA_MISSES = re.compile(r"model ['\"\\]+\S+ not found")
"""Ollama's words for a model that was not pulled, with either of its kinds of quotation marks."""


def explain(error: Exception, settings: Llm) -> UserError:
    """Return what is wrong with the server of the settings, from what its client raised."""
    import openai

    tries = _tries(error)
    match error:
        case openai.APITimeoutError():
            wrong = f"gave no answer within {settings.timeout_s:g} s{tries}"
            remedy = "raise llm.timeout_s or lower llm.concurrency"
        case openai.APIConnectionError():
            wrong = f"cannot be reached{tries} ({error.__cause__ or error})"
            remedy = "start the server or correct llm.base_url"
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            wrong = f"does not accept the key ({said(error)})"
            remedy = f"put one into the environment variable {settings.api_key_env}"
        case openai.NotFoundError() if is_missing_in_ollama(error):
            wrong = f"does not hold the model {settings.model!r} ({said(error)})"
            remedy = f"run `ollama pull {settings.model}` where the server is, or correct llm.model"
        case openai.NotFoundError():
            wrong = f"does not know the model {settings.model!r} or the path ({said(error)})"
            remedy = "correct llm.model or llm.base_url, which mostly ends in /v1"
        case openai.APIStatusError() if when := _retry_after(error):
            wrong = f"wants no further request{tries} until {when} ({said(error)})"
            remedy = "run the stage again then"
        case openai.RateLimitError():
            wrong = f"refuses further requests{tries} ({said(error)})"
            remedy = "wait, lower llm.concurrency or raise llm.max_retries"
        case openai.InternalServerError():
            wrong = f"fails{tries} ({said(error)})"
            remedy = "look into its log, then run the stage again"
        case openai.APIStatusError():
            wrong = f"turns requests away{tries} ({said(error)})"
            remedy = "correct what it names in the section llm, or use another server"
        case _:
            wrong = f"does not speak the OpenAI protocol ({error})"
            remedy = "correct llm.base_url, which mostly ends in /v1"
    return UserError(f"the language model server {settings.base_url} {wrong}; {remedy}; {_KEPT}")


def is_missing_in_ollama(error: Any) -> bool:
    """Return whether Ollama says that it does not hold the model."""
    return _OLLAMA_MISSES.search(said(error)) is not None


def said(error: Any) -> str:
    """Return the status and the server's own words, cut short and on one line."""
    body = error.body
    # Ollama's own API has its words where others have an object that holds them.
    words = body if isinstance(body, str) else body.get("message") if isinstance(body, dict) else ""
    message = " ".join(str(words or error.message).split())
    return f"{error.status_code}, {message[:200]}"


def _tries(error: Any) -> str:
    """Return how often the client tried, where it did so more than once.

    It tells servers so in a header, as the documentation of Stainless, which generates it, says.
    """
    request = getattr(error, "request", None)
    retries = int(request.headers.get("x-stainless-retry-count", 0)) if request else 0
    return f" after {retries + 1} tries" if retries else ""


def _retry_after(error: Any) -> str | None:
    """Return when a server takes requests again, if it says so."""
    when = str(error.response.headers.get("retry-after", "")).strip()[:40]
    return f"{when} s from now" if re.fullmatch(r"[\d.]+", when) else when or None
