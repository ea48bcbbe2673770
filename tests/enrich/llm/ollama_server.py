"""A small server that speaks Ollama's documented protocol over real HTTP.

`/v1/chat/completions` is its OpenAI endpoint (docs/openai.md): `response_format` becomes the
`format` of its own API, of which the model sees nothing but the grammar, and `keep_alive` is no
field of it. `/api/generate` without a prompt loads a model for `keep_alive` (docs/faq.md). A model
that was not pulled is a 404 in the words of either.
"""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FIVE_MINUTES = "5m"
FIELDS = {
    "frequency_penalty",
    "max_tokens",
    "messages",
    "model",
    "presence_penalty",
    "response_format",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "tools",
    "top_p",
}
"""What its OpenAI endpoint reads of a request; the rest is dropped in silence."""


@dataclass
class Chat:
    """What the model is given of one request: its messages, and the grammar of `format`."""

    messages: list[dict[str, str]]
    format: dict[str, Any] | None
    num_predict: int


class OllamaServer:
    """Serves until closed.

    Attributes:
        pulled: models that it holds.
        kept: how long it keeps each model that it has loaded.
        paths: of the requests, oldest first.
        chats: what its models were given.
        dropped: fields of requests that its OpenAI endpoint does not know.
        failing: statuses with which the next requests are turned away, the next one's first.
    """

    def __init__(self, *pulled: str) -> None:
        self.pulled = set(pulled)
        self.kept: dict[str, str | int] = {}
        self.paths: list[str] = []
        self.chats: list[Chat] = []
        self.dropped: set[str] = set()
        self.failing: list[int] = []
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.paths.append(self.path)
                    status, answer = server._answer(self.path, body)
                payload = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.failing:
            return self.failing.pop(0), {"error": "server busy"}
        if path == "/api/generate":
            return self._generate(body)
        if path == "/v1/chat/completions":
            return self._chat(body)
        return 404, {"error": "404 page not found"}

    def _generate(self, body: dict[str, Any]) -> tuple[int, Any]:
        model = body["model"]
        if model not in self.pulled:
            return 404, {"error": f"model '{model}' not found"}
        assert not body.get("prompt")
        self.kept[model] = body.get("keep_alive", FIVE_MINUTES)
        at = "2026-11-22T10:00:00.000000Z"
        done = {"done": True, "done_reason": "load"}
        return 200, {"model": model, "created_at": at, "response": ""} | done

    def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        model = body["model"]
        if model not in self.pulled:
            said = f"model {json.dumps(model)} not found, try pulling it first"
            about = {"message": said, "type": "api_error", "param": None, "code": None}
            return 404, {"error": about}
        self.dropped |= set(body) - FIELDS
        self.kept.setdefault(model, FIVE_MINUTES)
        wanted = body.get("response_format", {})
        grammar = wanted.get("json_schema", {}).get("schema")
        chat = Chat(body["messages"], grammar, body["max_tokens"])
        self.chats.append(chat)
        content = json.dumps({name: ["word"] for name in (grammar or {}).get("properties", {})})
        return 200, {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "system_fingerprint": "fp_ollama",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 26, "completion_tokens": 9, "total_tokens": 35},
        }
