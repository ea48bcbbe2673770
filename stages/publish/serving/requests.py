"""What a request says, checked before it is answered: a 400 of one sentence where it is wrong."""

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from bentoml.exceptions import BadInput
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

P = ParamSpec("P")
R = TypeVar("R")

EXPECTED = {
    "string": "a text",
    "int": "a whole number",
    "finite": "a whole number",
    "list": "a list",
}
"""By how the names of pydantic's errors begin, `int_parsing` and others."""
SHOWN = 60
"""Characters of a wrong value that are quoted."""


class Strict(BaseModel):
    """A form that refuses fields which it does not name."""

    model_config = ConfigDict(extra="forbid")


class CheckedRequests:
    """ASGI middleware that refuses a body which is not as the form of its route says.

    Args:
        app: what answers all other requests.
        forms: by route, the fields of a request; what is not among them is refused too.
    """

    def __init__(self, app: ASGIApp, forms: Mapping[str, type[BaseModel]]) -> None:
        self._app = app
        self._forms = {
            route: create_model(form.__name__, __base__=(form, Strict))
            for route, form in forms.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of a form, or hand it on."""
        form = self._forms.get(scope.get("path", ""))
        if form is None or scope.get("method") != "POST":
            await self._app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        wrong = what_is_wrong(body, form)
        if wrong is not None:
            await refusal(wrong)(scope, receive, send)
            return
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return unread.pop() if unread else await receive()

        await self._app(scope, again, send)


def refusing(answer: Callable[P, R]) -> Callable[P, R | JSONResponse]:
    """Let `BadInput` be an answer of status 400; BentoML would log it as a failure of ours."""

    @wraps(answer)
    def answered(*args: P.args, **kwargs: P.kwargs) -> R | JSONResponse:
        try:
            return answer(*args, **kwargs)
        except BadInput as error:
            return refusal(str(error))

    return answered


def refusal(reason: str) -> JSONResponse:
    """The answer that says why there is none."""
    return JSONResponse({"error": reason}, status_code=400)


def what_is_wrong(body: bytes, form: type[BaseModel]) -> str | None:
    """Say in one sentence what is wrong with the body of a request; None where nothing is.

    Args:
        body: JSON; nothing stands for an object without fields.
        form: the fields that it must have; those that it may have, where it is strict.
    """
    try:
        form.model_validate_json(body or b"{}")
    except ValidationError as error:
        # A field that there is not comes first: it may be another's name, spelt wrong.
        problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    else:
        return None
    kind, value, fields = problem["type"], problem["input"], ", ".join(form.model_fields)
    if kind == "json_invalid":
        return f"the body is not JSON ({problem['ctx']['error']}); send an object with {fields}"
    if not problem["loc"]:
        return f"the body is {_quoted(value)}; send a JSON object with {fields}"
    name, *within = problem["loc"]
    if kind == "extra_forbidden":
        near = get_close_matches(str(name), form.model_fields, 1)
        remedy = f"did you mean {near[0]}?" if near else f"the fields are {fields}"
        return f"{str(name)[:SHOWN]!r} is no field; {remedy}"
    if kind == "missing":
        return f"{name} is missing; send it: {form.model_fields[str(name)].description}"
    place = "".join(f"[{part}]" for part in within if isinstance(part, int))
    expected = EXPECTED.get(kind.split("_")[0], problem["msg"])
    return f"{name}{place} is {_quoted(value)}, expected {expected}"


def _quoted(value: Any) -> str:
    """A value of JSON, cut short."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
