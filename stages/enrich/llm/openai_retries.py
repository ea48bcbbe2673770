"""The connection of the OpenAI client, which counts the requests that it is given again."""

from collections import Counter
from contextvars import ContextVar
from typing import Any

import openai

_failed: ContextVar[str] = ContextVar("failed")
"""How the last request of this task ended; tasks send one at a time."""


class CountingConnection(openai.DefaultAsyncHttpxClient):
    """Sends each try of a request and counts those that are not the first by what failed before.

    Args:
        retries: counts, by HTTP status such as "429", "timeout", or "connection" where one could
            not be had or broke off.
    """

    def __init__(self, retries: Counter[str]) -> None:
        super().__init__()
        self._retries = retries

    async def send(self, request: Any, **options: Any) -> Any:
        """Send one try; the answer is read whole, so one that breaks off has failed too."""
        if int(request.headers.get("x-stainless-retry-count", 0)):
            self._retries[_failed.get()] += 1
        try:
            response = await super().send(request, **options)
        except Exception as error:
            # By name: whether the class is that of httpx or httpx2 is up to the version of openai.
            names = {parent.__name__ for parent in type(error).__mro__}
            _failed.set("timeout" if "TimeoutException" in names else "connection")
            raise
        _failed.set(str(response.status_code))
        return response
