"""Runs the probe inside a web dyno, with what it aims at from the query, and answers with what it printed."""

import os
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        text = b"probe here\n"
        if url.path == "/run":
            environment = os.environ | dict(parse_qsl(url.query))
            text = subprocess.run(["python3", "probe.py"], env=environment, stdout=subprocess.PIPE).stdout
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
