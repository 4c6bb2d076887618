"""`/health`, `/ready` and `/metrics` for a role that serves no HTTP itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sokuji.closing import Closing
from sokuji.service.metrics import CONTENT_TYPE

_JSON = "application/json"
_CLIENT_SECONDS_MAX = 10.0  # each client holds a thread


class HealthServer(Closing):
    """Answers from its own thread: `/health` while the process lives, `/ready` from `ready`, `/metrics` from `metrics`.

    Serves from its construction until `close`.
    """

    def __init__(self, host: str, port: int, *, ready: Callable[[], bool], metrics: Callable[[], str]) -> None:
        """Listen on `host`. With `port` 0, a free port is taken and stored in `port`.

        Raises:
            OSError: the port is taken.
        """

        class Handler(BaseHTTPRequestHandler):
            timeout = _CLIENT_SECONDS_MAX

            def do_GET(self) -> None:
                hosts = self.headers.get_all("host", [])
                if len(hosts) != 1 and (hosts or self.request_version == "HTTP/1.1"):
                    message = f"the request has {len(hosts)} Host headers; expected one"
                    self._answer(HTTPStatus.BAD_REQUEST, _JSON, json.dumps({"code": "invalid_http", "message": message}))
                    return
                match self.path:
                    case "/health":
                        self._answer(HTTPStatus.OK, _JSON, json.dumps({"status": "ok"}))
                    case "/ready":
                        is_ready = ready()
                        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
                        self._answer(status, _JSON, json.dumps({"status": "ready" if is_ready else "not ready"}))
                    case "/metrics":
                        self._answer(HTTPStatus.OK, CONTENT_TYPE, metrics())
                    case path:
                        message = f"{path} does not exist; there are /health, /ready and /metrics"
                        self._answer(HTTPStatus.NOT_FOUND, _JSON, json.dumps({"code": "not_found", "message": message}))

            def _answer(self, status: HTTPStatus, content_type: str, text: str) -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing: there is a probe every few seconds."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
