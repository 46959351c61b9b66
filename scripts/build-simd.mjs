// Compiles the WebAssembly sources of src/tensor and writes each as base64 into a module beside it. Run after every change
// of a source: node scripts/build-simd.mjs
import { readFileSync, writeFileSync } from "node:fs";
import wabt from "wabt";

const folder = new URL("../src/tensor/", import.meta.url);
/** By the name of its source: what uses it, and what it is exported as. */
const modules = {
  "block-sums": { user: "BlockSums", constant: "blockSumsModule" },
  elements: { user: "ElementMemory", constant: "elementsModule" },
  "partial-sums": { user: "PartialSums", constant: "partialSumsModule" },
};

/** The module of a source as it stands, as bytes. */
export async function compileSource(name) {
  const { parseWat } = await wabt();
  const source = parseWat(`${name}.wat`, readFileSync(new URL(`${name}.wat`, folder), "utf8"), { simd: true });
  try {
    source.validate({ simd: true });
    return source.toBinary({}).buffer;
  } finally {
    source.destroy();
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  for (const [name, { user, constant }] of Object.entries(modules)) {
    const text = Buffer.from(await compileSource(name)).toString("base64");
    writeFileSync(
      new URL(`${name}-module.ts`, folder),
      `// Made by scripts/build-simd.mjs from ${name}.wat.\n\n/** The WebAssembly module of \`${user}\`, in base64. */\nexport const ${constant} =\n${text
        .match(/.{1,108}/g)
        .map((line) => `  "${line}"`)
        .join(" +\n")};\n`,
    );
  }
}
