"""Requests in JSON over HTTP, tried again where that may help, and why there was no answer."""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Self

import httpx2

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_LONGEST_RETRY_AFTER_S = 120.0
_MAY_PASS = {408, 409, 429}


@dataclass
class Failure(Exception):
    """Why a request has no answer.

    Attributes:
        kind: "slow" and "away" are of the connection, "refused" is a status that is no success,
            "foreign" is an answer that is no JSON.
        said: what was said, on one line and cut short.
        status: of HTTP, where it was refused.
        retry_after: seconds after which the server wants to be asked again, if it says so.
    """

    kind: Literal["slow", "away", "refused", "foreign"]
    said: str = ""
    status: int = 0
    retry_after: float | None = None

    @property
    def may_pass(self) -> bool:
        """Whether the same request may have an answer later."""
        return self.kind in ("slow", "away") or self.status in _MAY_PASS or self.status >= 500


class Client:
    """Posts JSON, over one connection for each request that is under way.

    Connection errors, timeouts, 408, 409, 429 and 5xx are tried again `max_retries` times, after
    0.5 to 8 seconds, doubling, with jitter, or when Retry-After says, up to two minutes. Use as an
    asynchronous context manager.

    Args:
        key: the bearer's.
        at_once: requests under way, at the most.
        timeout_s: for one try, to the end of its answer.
        max_retries: tries after the first.
    """

    def __init__(self, key: str, at_once: int, timeout_s: float, max_retries: int) -> None:
        self._timeout_s = timeout_s
        self._max_retries = max_retries
        self._http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"},
            timeout=None,
            limits=httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once),
            follow_redirects=True,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(self, url: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON of the answer.

        Raises:
            Failure: the last try had none.
        """
        pause = _FIRST_PAUSE_S
        for _ in range(self._max_retries):
            try:
                return await self._try(url, body)
            except Failure as failure:
                if not failure.may_pass:
                    raise
                wanted = failure.retry_after
            await asyncio.sleep(wanted or pause * random.uniform(0.75, 1))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return await self._try(url, body)

    async def _try(self, url: str, body: Mapping[str, Any]) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.post(url, json=body)
        except TimeoutError as error:
            raise Failure("slow") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Failure("away", str(error) or type(error).__name__) from error
        if not response.is_success:
            said = f"{response.status_code}, {_words(response)[:200]}"
            wanted = retry_after(response.headers.get("Retry-After"))
            raise Failure("refused", said, response.status_code, wanted)
        try:
            return response.json()
        except ValueError as error:
            raise Failure("foreign", f"it answered {response.text[:80]!r}") from error


def _words(response: httpx2.Response) -> str:
    """Return what a server says is wrong: as OpenAI and vLLM do, as Ollama does, or as it is."""
    said: Any = response.text
    with suppress(ValueError, TypeError, LookupError):
        said = response.json()["error"]
        said = said["message"]
    return " ".join(str(said).split())


def retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which may be a date; null without one."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER_S)
