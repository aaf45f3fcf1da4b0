// A web app that says who it is. No package.json: what is tested is the platform, not a build.
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");

const version = fs.readFileSync("VERSION", "utf8").trim();

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://app");
  if (request.method === "POST") {
    const hash = crypto.createHash("sha256");
    let size = 0;
    request.on("data", (chunk) => { size += chunk.length; hash.update(chunk); });
    request.on("end", () => response.end(`${size} bytes, sha256 ${hash.digest("hex")}\n`));
  } else if (url.pathname === "/slow") {
    const seconds = url.searchParams.get("seconds");
    setTimeout(() => response.end(`slept ${seconds}\n`), seconds * 1000);
  } else {
    response.end(`version=${version} greeting=${process.env.GREETING || "hello"} dyno=${process.env.DYNO}\n`);
  }
});

server.on("upgrade", (request, socket) => {
  const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  const accept = crypto.createHash("sha1").update(key).digest("base64");
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let waiting = Buffer.alloc(0);
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    waiting = Buffer.concat([waiting, chunk]);
    while (waiting.length >= 6 && waiting.length >= 6 + (waiting[1] & 127)) {
      const size = waiting[1] & 127;
      const data = waiting.subarray(6, 6 + size).map((byte, at) => byte ^ waiting[2 + (at % 4)]);
      socket.write(Buffer.concat([Buffer.from([waiting[0], size]), data]));
      if ((waiting[0] & 15) === 8) socket.end();
      waiting = waiting.subarray(6 + size);
    }
  });
});

server.listen(process.env.PORT, "0.0.0.0", () => console.log(`version ${version} boots`));
