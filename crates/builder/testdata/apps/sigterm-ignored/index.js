// Goes on as if nothing had been asked of it.
process.on("SIGTERM", () => console.log("reloading"));
require("node:http").createServer((_, response) => response.end("hello\n")).listen(process.env.PORT);
