"""Opens idle connections: `idle.py PORT COUNT [tls]`. One request on each, then `ready`, then until its input ends."""

import socket
import ssl
import sys

port, count, tls = int(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
connections = []
for _ in range(count):
    connection = socket.create_connection(("127.0.0.1", port))
    if tls:
        connection = context.wrap_socket(connection, server_hostname="bench.example")
    connection.sendall(b"GET /200 HTTP/1.1\r\nHost: bench.example\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < 200:
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer
    connections.append(connection)
print("ready", flush=True)
sys.stdin.read()
