"""A web app that says who it is, and misbehaves when asked to."""

import base64
import hashlib
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

VERSION = open("VERSION").read().strip()
HOARD = []
SICK = set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        url = urlsplit(self.path)
        action = getattr(self, "go_" + url.path.strip("/"), self.go_)
        action(**dict(parse_qsl(url.query)))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()}\n")

    def answer(self, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def go_(self, **_):
        greeting = os.environ.get("GREETING", "hello")
        self.answer(f"version={VERSION} greeting={greeting} dyno={os.environ['DYNO']} host={os.uname().nodename}\n")

    def go_env(self, name):
        value = os.environ.get(name)
        self.answer("unset\n" if value is None else f"{len(value)} {hashlib.sha256(value.encode()).hexdigest()}\n")

    def go_slow(self, seconds="5"):
        time.sleep(float(seconds))
        self.answer(f"slept {seconds}\n")

    def go_drip(self, seconds):
        """An answer that takes its time: ten bytes per second."""
        self.send_response(200)
        self.send_header("Content-Length", str(10 * int(seconds)))
        self.end_headers()
        for _ in range(10 * int(seconds)):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def go_health(self):
        if SICK:
            self.send_error(500)
        else:
            self.answer("well\n")

    def go_sicken(self, dyno):
        if dyno == os.environ["DYNO"]:
            SICK.add(dyno)
        self.go_()

    def go_cure(self):
        SICK.clear()
        self.go_()

    def go_long(self, bytes):
        self.answer("x" * int(bytes))

    def go_say(self, text):
        print(text, flush=True)
        self.answer("said\n")

    def go_count(self, lines="1000", seconds="10"):
        """Numbered lines, evenly over some time, beside the requests."""
        total, pause = int(lines), float(seconds) / int(lines)

        def count():
            for number in range(total):
                print(f"line {number}", flush=True)
                time.sleep(pause)

        threading.Thread(target=count).start()
        self.answer("counting\n")

    def go_eat(self, mib):
        HOARD.append(b"x" * (int(mib) << 20))
        self.answer("eaten\n")

    def go_fork(self, count):
        made, refused = [], 0
        for _ in range(int(count)):
            try:
                # Cheap enough to be refused thousands of times in a second.
                made.append(os.posix_spawn("/bin/sleep", ["sleep", "600"], {}))
            except OSError:
                refused += 1
        for child in made:
            os.kill(child, 9)
            os.waitpid(child, 0)
        self.answer(f"made {len(made)}, refused {refused}\n")

    def go_fill(self, mib):
        written = 0
        try:
            with open("big", "wb") as file:
                for _ in range(int(mib)):
                    file.write(b"x" * (1 << 20))
                    file.flush()
                    written += 1
        except OSError as error:
            self.answer(f"refused after {written} MiB: {error.strerror}\n")
            return
        self.answer(f"wrote {written} MiB\n")

    def go_flood(self, seconds):
        """As much output as the pipe takes."""
        subprocess.Popen(["timeout", seconds, "yes", "x" * 200], stdout=sys.stdout)
        self.answer("flooding\n")

    def go_crash(self):
        os._exit(3)

    def go_ws(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while True:
            head = self.rfile.read(2)
            if len(head) < 2:
                return
            opcode, size = head[0] & 15, head[1] & 127
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(size)))
            self.wfile.write(bytes([0x80 | opcode, len(data)]) + data)
            if opcode == 8:
                return

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


print(f"version {VERSION} boots", flush=True)
Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
