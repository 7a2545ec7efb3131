"""A server that says what it is given, and answers that are as they must be."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ITEM = {
    "id": 1, "key": "k", "path": "/p", "modality": "image", "taken_at": "2024-06-01T12:00:00", "camera": None,
    "width": 3, "height": 4, "latitude": 1.5, "longitude": None, "caption": None, "text": None, "metadata": {"a": [""]},
    "content_hash": "00", "thumbnail": None, "tags": ["x"], "size": 1, "mtime_ns": 2,
}  # fmt: skip
HIT = {
    **ITEM, "rank": 1, "item_modality": "image", "score": 0.5, "confidence": None, "log_evalue": 2.0, "part_index": 0,
    "part": {"index": 0, "line": 1, "end_line": 2, "text": "x"}, "also": [ITEM],
    "recognised": [{"text": "x", "box": [[0.1, 0.2]] * 4, "confidence": 0.9}],
}  # fmt: skip
LISTS = {"library": "/lib", "total": 1, "items": [ITEM], "warnings": [], "cursor": None}
UNDERSTOOD = {
    "text": "rain", "filters": {"tags": ["a"]}, "parts": ["with a"], "without": ["sea"],
    "description": "rain, with a, without sea",
}  # fmt: skip
EXPLANATION = {
    "terms": [
        {
            "term": "q", "weight": 1.0, "modality": "image", "score": 0.5, "log_evalue": None, "confidence": None,
            "place": 1,
        }
    ],
    "order": 0.5, "order_place": 1, "meaning_place": 1, "words_place": None, "words_worth": None, "place": 1,
    "step": 0, "words": [{"source": "text", "text": "a q", "spans": [[2, 3]]}], "filters": [], "above_next": "",
}  # fmt: skip
ANSWER = {
    "hits": [HIT],
    "query": "q",
    "encoder": "e",
    "library": "/lib",
    "confident": True,
    "warnings": ["w"],
    "left_out": 0,
}


@contextmanager
def answering(*answers):
    """A server that gives these answers, (status, headers, body), one after the other, and the last again."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, body = answers[min(len(asked), len(answers) - 1)]
            asked.append((self.command, self.path, dict(self.headers)))
            self.send_response(status)
            headers = headers if "Transfer-Encoding" in headers else {"Content-Length": str(len(body)), **headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for part in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(part)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

        def log_message(self, *unused):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
