require("node:fs").writeFileSync("built.txt", require("tool")());
