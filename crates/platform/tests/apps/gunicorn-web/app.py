"""The same small web app for gunicorn, whose workers close kept connections as they like."""

import hashlib
import os
import time

VERSION = open("VERSION").read().strip()


def application(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        text = f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()}\n"
    elif environ["PATH_INFO"] == "/slow":
        time.sleep(5)
        text = "slept 5\n"
    else:
        text = f"version={VERSION} greeting={os.environ.get('GREETING', 'hello')} dyno={os.environ['DYNO']}\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]
