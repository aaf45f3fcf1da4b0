// Answers 400 to any host but its own and sends plain requests to https, as frameworks do.
const own = process.env.ALLOWED_HOST || "shop.example.com";
require("node:http").createServer((request, response) => {
  if (request.headers.host !== own) {
    response.writeHead(400).end("bad host\n");
  } else if (request.headers["x-forwarded-proto"] !== "https") {
    response.writeHead(301, { location: `https://${own}${request.url}` }).end();
  } else {
    response.end("hello\n");
  }
}).listen(process.env.PORT);
