"""Attaches to one-offs through the rendezvous: `attach.py PORT CA WORD`, one `NUMBER SECRET` a line on its input.

Each one-off says `ready NUMBER`, takes a word, gives it back as `back NUMBER WORD`, and ends with the code NUMBER % 50 + 1,
which the rendezvous tells in its marker. Printed: `attached NUMBER`; then, after the line `go` on the input, `right NUMBER`
or, at any time, `wrong NUMBER WHAT`.
"""

import asyncio
import ssl
import sys

port, authority, word = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=authority)


def say(*words):
    print(*words, flush=True)


async def attach(number, secret, go):
    seen = b""
    try:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(f"{secret}\r\n".encode())
        ready = f"ready {number}".encode()
        while ready not in seen:
            piece = await reader.read(65536)
            if not piece:
                raise ConnectionError("it ended before it was ready")
            seen += piece
        say("attached", number)
        await go.wait()
        writer.write(f"{word}{number}\n".encode())
        seen += await reader.read()
        writer.close()
        text = seen.decode().replace("\r", "")
        if not text.startswith("rendezvous\n") or f"\nback {number} {word}{number}\n" not in text:
            raise ConnectionError("it did not give back what it was given")
        if not text.endswith(f"\uffff heroku-command-exit-status: {number % 50 + 1}\n"):
            raise ConnectionError("it did not end with its code")
        say("right", number)
    except (OSError, ValueError) as error:
        say("wrong", number, repr(error), repr(seen))


async def main():
    go, sessions, lines = asyncio.Event(), [], asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while (line := (await lines.readline()).decode().split()) and line != ["go"]:
        sessions.append(asyncio.create_task(attach(int(line[0]), line[1], go)))
    go.set()
    await asyncio.gather(*sessions)


asyncio.run(main())
