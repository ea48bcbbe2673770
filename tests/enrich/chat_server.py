"""A small server that speaks the OpenAI chat completions protocol over real HTTP.

It answers by the schema it is given, from words of the last prompt. A word in the prompt makes it
misbehave as a real server may:

    BROKEN      JSON that breaks off; BROKEN-ONCE only until somebody objects
    ALIEN       JSON of another form
    REFUSE      a refusal
    CUT         finish_reason "length"; CUT-ONCE only with 256 tokens or fewer
    CONTROL     a line break and a bell, as they are, in a text of the answer
    SURROGATE   half of a surrogate pair in the answer
    SILENT      no message, an unknown count of tokens
    PARTS       the answer in two parts, no count of tokens
    UNHELD      prose, until the schema is quoted
    LONG        400, the prompt is too long
    SOUR        404, at once
    BUSY-ONCE   429 with Retry-After, then an answer
    FAIL-TWICE  500 two times, then an answer
    SLOW-ONCE   no answer for a second, then one at once
    CLOSE-ONCE  the connection closed in the middle of an answer, then a whole one
    DROP-ONCE   the connection closed without a word, then an answer
    FAIL        500 always
    HANG        no answer for a long time
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RETRY_AFTER = 1.5
OBJECTION = "This cannot be used"


class ChatServer:
    """Serves until closed, notes what it was asked.

    Attributes:
        asked: each request as {"prompt", "turns", "key", "body"}, oldest first.
        most_at_once: requests that were under way at one time.
        delay: seconds that each answer takes.
        refuse_all: HTTP status with which every request is turned away, or None.
        refusal: what it says then.
        retry_after: its header Retry-After then, or None.
        dead_after: answers given before every request is turned away, or None.
        dead_status: HTTP status of that.
        sour_status: HTTP status of SOUR.
        around: what stands before and after each answer.
        most_tokens: a `max_tokens` beyond which a request is turned away with 400, or None.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.answered = 0
        self.most_at_once = 0
        self.delay = 0.0
        self.refuse_all: int | None = None
        self.refusal = "not today"
        self.retry_after: str | None = None
        self.dead_after: int | None = None
        self.dead_status = 503
        self.sour_status = 404
        self.most_tokens: int | None = None
        self.around = "", ""
        self.html = False
        self.closing = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path != "/v1/chat/completions":
                    return self.reply(404, {"error": {"message": "no such path"}})
                with server._lock:
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                try:
                    status, answer, headers = server._answer(body, self.headers)
                finally:
                    with server._lock:
                        server._at_once -= 1
                if status is None:
                    self.close_connection = True
                    return None
                return self.reply(status, answer, headers)

            def reply(
                self, status: int, answer: Any, headers: dict[str, str] | None = None
            ) -> None:
                payload = json.dumps(answer).encode()
                kind = "application/json"
                if server.html:
                    payload, kind = b"<html>Welcome</html>", "text/html"
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(payload)))
                    for name, value in (headers or {}).items():
                        self.send_header(name, value)
                    self.end_headers()
                    half = len(payload) // 2 if "Connection" in (headers or {}) else None
                    self.wfile.write(payload[:half])
                except OSError:  # the client is gone
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                pass

        self._http = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def prompts(self) -> list[str]:
        """The first prompt of each conversation that was asked, in order, repeats included."""
        return [one["prompt"] for one in self.asked]

    def _answer(self, body: dict[str, Any], sent: Any) -> tuple[int | None, Any, dict[str, str]]:
        said = [m["content"] for m in body["messages"] if m["role"] == "user"]
        turns = 1 + sum(content.startswith(OBJECTION) for content in said)
        prompt = said[-turns]
        with self._lock:
            before = sum(one["prompt"] == prompt for one in self.asked)
            self.asked.append(
                {"prompt": prompt, "turns": turns, "key": sent["Authorization"], "body": body}
            )
            self.times.append(time.monotonic())
        if "SOUR" in prompt:
            return _error(self.sour_status, "no such thing")
        slow = "SLOW-ONCE" in prompt and before == 0
        self.closing.wait(30 if "HANG" in prompt else 1 if slow else self.delay)
        if self.refuse_all:
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return _error(self.refuse_all, self.refusal, headers)
        if self.dead_after is not None and self.answered >= self.dead_after:
            return _error(self.dead_status, "shutting down")
        if self.most_tokens is not None and body["max_tokens"] > self.most_tokens:
            return _error(400, f"max_tokens is over {self.most_tokens}")
        if "LONG" in prompt:
            return _error(400, "maximum context length is 4096 tokens")
        if "BUSY-ONCE" in prompt and before == 0:
            return _error(429, "slow down", {"Retry-After": str(RETRY_AFTER)})
        if "FAIL" in prompt.split() or ("FAIL-TWICE" in prompt and before < 2):
            return _error(500, "out of luck")
        if "DROP-ONCE" in prompt and before == 0:
            return None, None, {}
        with self._lock:
            self.answered += 1
        broken = "CLOSE-ONCE" in prompt and before == 0
        return 200, self._completion(body, prompt, turns), {"Connection": "close"} if broken else {}

    def _completion(self, body: dict[str, Any], prompt: str, turns: int) -> dict[str, Any]:
        schema = body["response_format"]["json_schema"]["schema"]
        content: str | None = json.dumps(fill(schema, prompt))
        message: dict[str, Any] = {"role": "assistant"}
        ending = "stop"
        if "BROKEN" in prompt.split() or ("BROKEN-ONCE" in prompt and turns == 1):
            content = content[:-3]
        elif "ALIEN" in prompt:
            content = '{"people": "everybody"}'
        elif "UNHELD" in prompt and json.dumps(schema) not in body["messages"][-1]["content"]:
            content = "Sure! The word is unheld."
        elif "REFUSE" in prompt:
            content, message["refusal"] = None, "I cannot help with that."
        elif "CUT" in prompt.split() or ("CUT-ONCE" in prompt and body["max_tokens"] <= 256):
            content, ending = content[:10], "length"
        elif "CONTROL" in prompt:
            content = '{"words": ["two\nlines\x07"]}'
        elif "SURROGATE" in prompt:
            content = json.dumps(fill(schema, "half \ud83d a pair"))
            content = content.replace("\\ud83d", "\ud83d")
        message["content"] = content and content.join(self.around)
        usage: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
        if "PARTS" in prompt:
            texts = [{"type": "text", "text": part} for part in (content[:5], content[5:])]
            message["content"], usage = [{"type": "other"}, *texts], {}
        elif "SILENT" in prompt:
            usage = {"prompt_tokens": None, "completion_tokens": None}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": None if "SILENT" in prompt else message,
                    "finish_reason": "error" if "SILENT" in prompt else ending,
                }
            ],
            "usage": usage,
        }


def fill(schema: dict[str, Any], prompt: str) -> dict[str, Any]:
    """Fill each field of the schema: a text with the prompt, a list with one of its words."""
    words = prompt.lower().split()
    values: dict[str, Any] = {}
    for number, (name, field) in enumerate(schema["properties"].items()):
        if field["type"] == "array":
            values[name] = words[number : number + 1]
        else:
            values[name] = prompt[: field["maxLength"]]
    return values


def _error(
    status: int, message: str, headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    return status, {"error": {"message": message, "type": "error", "code": status}}, headers or {}
