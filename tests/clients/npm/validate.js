// node validate.js FILES: print what is wrong with each AsyncAPI document. Advice is not printed.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { Parser } from "@asyncapi/parser";

const ADVICE = 2; // severities: 0 error, 1 warning, 2 information, 3 hint
const parser = new Parser();
for (const file of process.argv.slice(2)) {
  const { diagnostics } = await parser.parse(readFileSync(file, "utf8"));
  for (const { severity, path, message } of diagnostics) {
    if (severity < ADVICE) console.log(`${basename(file)} ${path.join("/")}: ${message}`);
  }
}
