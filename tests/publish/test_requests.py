"""Requests that are not as their form says: refused with one sentence, the others untouched."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from bentoml.exceptions import BadInput
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from stages.publish.serving.requests import CheckedRequests, Strict, refusing, what_is_wrong


class Form(BaseModel):
    query: str = Field(description="What is searched for.")
    history: list[str] | None = None
    top_k: int = 10


class StrictForm(Form, Strict):
    pass


def body(**sent: Any) -> bytes:
    return json.dumps(sent).encode()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (body(query="a", topk=3), "'topk' is no field; did you mean top_k?"),
        (body(query="a", colour=3), "'colour' is no field; the fields are query, history, top_k"),
        (body(top_k=3), "query is missing; send it: What is searched for."),
        (b"", "query is missing; send it: What is searched for."),
        (body(query=7), "query is 7, expected a text"),
        (body(query=None), "query is null, expected a text"),
        (body(query="a", top_k="many"), "top_k is 'many', expected a whole number"),
        (body(query="a", top_k=1.5), "top_k is 1.5, expected a whole number"),
        (body(query="a", history="i1"), "history is 'i1', expected a list"),
        (body(query="a", history=["i1", 2]), "history[1] is 2, expected a text"),
        (body(query="a", top_k="x" * 99), f"top_k is '{'x' * 59}..., expected a whole number"),
        (b"[1]", "the body is [1]; send a JSON object with query, history, top_k"),
        (b"null", "the body is null; send a JSON object with query, history, top_k"),
        (b"[" * 100_000, "the body is not JSON (recursion limit exceeded"),
        (b'{"query": ', "the body is not JSON (EOF while parsing a value at line 1 column 10); se"),
        (b'{"query": "\xff"}', "the body is not JSON (invalid unicode code point"),
        (b'{"query": "\\ud800"}', "the body is not JSON (unexpected end of hex escape"),
        (b'{"query": "a", "top_k": NaN}', "top_k is NaN, expected a whole number"),
        (body(qeury="a", top_k=None), "'qeury' is no field; did you mean query?"),
    ],
)
def test_what_is_wrong_is_one_sentence(sent: bytes, said: str) -> None:
    found = what_is_wrong(sent, StrictForm)
    assert found is not None
    assert found.startswith(said)
    assert "\n" not in found


@pytest.mark.parametrize("sent", [{}, {"history": None}, {"history": ["i1"], "top_k": 3}])
def test_nothing_is_wrong_with_what_the_form_takes(sent: dict[str, Any]) -> None:
    assert what_is_wrong(body(query="a", **sent), StrictForm) is None


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body that came through."""
    request = Request(scope, receive)
    said = {"path": request.url.path, "body": (await request.body()).decode()}
    await JSONResponse(said)(scope, receive, send)


def asked(method: str, path: str, content: bytes | None = None) -> httpx.Response:
    app = CheckedRequests(echo, {"/search": Form})

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, content=content)

    return asyncio.run(ask())


def test_a_wrong_request_is_a_400_and_a_right_one_goes_through() -> None:
    refused = asked("POST", "/search", body(query="a", topk=3))
    assert refused.status_code == 400
    assert refused.json() == {"error": "'topk' is no field; did you mean top_k?"}
    right = body(query="a" * 200_000)
    assert asked("POST", "/search", right).json() == {"path": "/search", "body": right.decode()}


@pytest.mark.parametrize(("method", "path"), [("POST", "/other"), ("GET", "/search")])
def test_requests_without_a_form_go_through(method: str, path: str) -> None:
    assert asked(method, path, b"?").json() == {"path": path, "body": "?"}


def test_what_is_refused_is_an_answer_and_not_an_error() -> None:
    @refusing
    def half(number: int) -> int:
        if number % 2:
            raise BadInput(f"number is {number}; send an even one")
        return number // 2

    assert half(4) == 2
    answer = half(3)
    assert isinstance(answer, JSONResponse)
    assert answer.status_code == 400
    assert json.loads(bytes(answer.body)) == {"error": "number is 3; send an even one"}
