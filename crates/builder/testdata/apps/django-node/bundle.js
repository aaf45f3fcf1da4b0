const fs = require("node:fs");
fs.mkdirSync("static", { recursive: true });
fs.writeFileSync("static/app.css", "h1{color:teal}\n");
