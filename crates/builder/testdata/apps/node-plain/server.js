require("node:http").createServer((_, response) => response.end("hello\n")).listen(process.env.PORT);
