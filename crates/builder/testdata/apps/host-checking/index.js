// Answers 400 to any host but its own and sends plain requests to https, as frameworks do. FAULT makes it worse.
const own = process.env.ALLOWED_HOST || "shop.example.com";
const fault = process.env.FAULT;
require("node:http").createServer((request, response) => {
  const plain = request.headers["x-forwarded-proto"] !== "https" || fault === "proxy-ignored";
  const redirect = (status, host) => response.writeHead(status, { location: `https://${host}${request.url}` }).end();
  if (request.headers.host !== own) {
    response.writeHead(400).end("bad host\n");
  } else if (plain) {
    redirect(301, own);
  } else if (fault === "other-host") {
    redirect(302, `www.${own}`);
  } else if (fault === "private") {
    response.writeHead(403).end("members only\n");
  } else {
    response.end("hello\n");
  }
}).listen(process.env.PORT);
