const http = require("node:http");

const server = http.createServer((request, response) => {
  response.writeHead(200, { "content-type": "text/plain; charset=utf-8" });
  response.end(`Hello from ${process.env.DYNO ?? "this machine"}\n`);
});

// `::` takes IPv4 and IPv6; the platform chooses the port.
server.listen(process.env.PORT ?? 3000, "::", () => console.log("Listening on port %d", server.address().port));

// The platform sends SIGTERM and waits 30 seconds: answer what is under way, take nothing new.
process.on("SIGTERM", () => server.close(() => process.exit(0)));
