#!/usr/bin/env python3
"""A push target in a few lines: pulk sends a job, this runs it. Python's standard library only.

    PULK_SECRET=change-me python3 examples/push-target.py 3000
    pulk serve --push-url http://127.0.0.1:3000/ --push-secret change-me
"""

import base64
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

SECRET = os.environ.get("PULK_SECRET", "").encode()


def is_signed(headers, body):
    """Standard Webhooks: HMAC-SHA256 of id, time and body, not older than five minutes."""
    sent_at = headers.get("webhook-timestamp", "0")
    signed = f"{headers.get('webhook-id')}.{sent_at}.".encode() + body
    digest = hmac.new(SECRET, signed, "sha256").digest()
    expected = "v1," + base64.b64encode(digest).decode()
    is_recent = sent_at.isdigit() and abs(time.time() - int(sent_at)) < 300
    return is_recent and hmac.compare_digest(expected, headers.get("webhook-signature", ""))


def run(kind, payload):
    """The work itself. What it returns is the job's result; what it raises is a failure."""
    if kind == "mail.welcome":
        return {"sent": payload["to"]}
    raise LookupError(f"no handler for {kind}")


class Target(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if SECRET and not is_signed(self.headers, body):
            return self.answer(401, {"error": "the signature is wrong"})
        kind, attempt = unquote(self.headers["ce-type"]), self.headers["ce-attempt"]
        print(f"{self.headers['ce-id']}: {kind}, attempt {attempt}", flush=True)
        try:
            self.answer(200, run(kind, json.loads(body)))  # 2xx: done
        except (LookupError, ValueError, TypeError) as reason:
            self.answer(422, {"error": str(reason)})  # 4xx: never again, a dead letter
        except Exception as reason:
            self.answer(500, {"error": str(reason)})  # 5xx: tried again

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    ThreadingHTTPServer(("127.0.0.1", port), Target).serve_forever()
