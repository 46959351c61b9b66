// Answers each line of JSON, the options of `diagnose`, with its verdict on one line: as `faultline diagnose --json` does,
// without a start for each.
import { createInterface } from "node:readline";
import { diagnose } from "../../dist/index.js";

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await diagnose(JSON.parse(line)))}\n`);
}
