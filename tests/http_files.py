"""A web server on 127.0.0.1 whose files misbehave on demand."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass
class ServedFile:
    """What the server answers for one path."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    etag: str | None = '"one"'
    cut_after: list[int] = field(default_factory=list)
    """For the next requests: bytes of body to send before the connection is dropped."""
    says_length: bool = True
    lies_about_offset: bool = False
    delay_s: float = 0.0
    on_request: Callable[[], None] | None = None


class FileServer:
    """Serves :attr:`files` by path and keeps the headers of every request."""

    def __init__(self) -> None:
        self.files: dict[str, ServedFile] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                server._answer(self)

            do_HEAD = do_GET

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self.base = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> "FileServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def add(self, path: str, file: ServedFile) -> str:
        self.files[path] = file
        return self.base + path

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append((request.path, dict(request.headers)))
        file = self.files.get(request.path.partition("?")[0])
        if file is None:
            request.send_error(404)
            return
        if file.on_request is not None:
            file.on_request()
        body, status, headers = file.content, file.status, dict(file.headers)
        asked = request.headers.get("Range")
        fresh = request.headers.get("If-Range") in (None, file.etag)
        if status == 200 and asked and file.ranges and fresh:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                request.send_error(416)
                return
            said = start + 1 if file.lies_about_offset else start
            headers["Content-Range"] = f"bytes {said}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        if file.etag:
            request.send_header("ETag", file.etag)
        if file.says_length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "HEAD":
            return
        time.sleep(file.delay_s)
        sent = file.cut_after.pop(0) if file.cut_after else len(body)
        request.wfile.write(body[:sent])
        request.close_connection = True
