// Writes schemas/*.json, the JSON Schemas of everything that --json prints, from those beside the code that prints it.
// Refuses to take a field back that was published: to do it all the same, delete the file first.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { outputs, schemaOf } from "../dist/cli/outputs.js";
import { takenBack } from "../dist/cli/schema-change.js";

const folder = new URL("../schemas/", import.meta.url);
mkdirSync(folder, { recursive: true });
const gone = readdirSync(folder).filter((file) => !(file.replace(/\.json$/, "") in outputs));
for (const name of Object.keys(outputs)) {
  const file = new URL(`${name}.json`, folder);
  const schema = schemaOf(name);
  const back = existsSync(file) ? takenBack(JSON.parse(readFileSync(file, "utf8")), schema, name) : [];
  if (back.length > 0) {
    console.error(back.join("\n"));
    process.exitCode = 1;
  } else writeFileSync(file, `${JSON.stringify(schema, null, 2)}\n`);
}
for (const file of gone) console.error(`schemas/${file}: is of no output any more`);
if (gone.length > 0) process.exitCode = 1;
