"""A model's own server that keeps the contract `convoy`: Open Inference Protocol v2 over HTTP, with Python's library alone.

It doubles a column. A real one would load `$CONVOY_SERVICE_ROOT/src/model` here, before it says that it is ready.
"""

import json
import math
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(os.environ["CONVOY_SERVICE_ROOT"])
MODEL, REVISION = os.environ["CONVOY_SERVICE_MODEL"], os.environ["CONVOY_SERVICE_REVISION"]
REGION = os.environ["CONVOY_SERVICE_REGION"]
COLUMN = {"name": "x", "datatype": "FP64", "shape": [-1]}
MOST_BYTES = 8 << 20


class Refused(Exception):
    """The request is wrong; its text says what of it."""


def predict(document: object) -> list[float]:
    """Return what the model answers; raises Refused for a request that is none."""
    try:
        (column,) = (each for each in document["inputs"] if each["name"] == COLUMN["name"])
        values = [float(value) for value in column["data"]]
    except (TypeError, KeyError, ValueError) as problem:
        raise Refused("column 'x': must be a list of numbers") from problem
    if not all(map(math.isfinite, values)):
        raise Refused("column 'x': has a value that is no number")
    return [value * 2 for value in values]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    # Head and body go out in two writes: without this the second waits 40 ms for the first one's receipt
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Say that it lives, that it is ready, and what the model takes."""
        known = {"/v2/health/live": {}, "/v2/health/ready": {"revision": REVISION}}
        known[f"/v2/models/{MODEL}"] = {
            "name": MODEL,
            "platform": "own",
            "inputs": [COLUMN],
            "outputs": [{"name": "output", "datatype": "FP64", "shape": [-1]}],
        }
        found = known.get(self.path)
        self.answer(200 if found is not None else 404, {"error": "no such path"} if found is None else found)

    def do_POST(self) -> None:
        """Answer rows."""
        size = self.headers.get("content-length", "")
        if not size.isdigit() or int(size) > MOST_BYTES:
            self.close_connection = True
            return self.answer(413, {"error": "the body has no length, or is too large"})
        body = self.rfile.read(int(size))
        if self.path != f"/v2/models/{MODEL}/infer":
            return self.answer(404, {"error": "no such path"})
        try:
            found = predict(json.loads(body))
        except (Refused, ValueError, RecursionError) as problem:
            return self.answer(400, {"error": str(problem)})
        output = {"name": "output", "datatype": "FP64", "shape": [len(found)], "data": found}
        return self.answer(200, {"model_name": MODEL, "outputs": [output]})

    def answer(self, status: int, document: object) -> None:
        """Send a document; every answer names the revision, and where it comes from."""
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("X-Convoy-Revision", REVISION)
        self.send_header("X-Convoy-Region", REGION)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    if not (ROOT / "src" / "model" / "MLmodel").is_file():
        sys.exit("the model is not where it should be")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = ThreadingHTTPServer((os.environ["CONVOY_SERVICE_HOST"], int(os.environ["CONVOY_SERVICE_PORT"])), Handler)
    sys.stdout.write("ready\n")
    server.serve_forever()
