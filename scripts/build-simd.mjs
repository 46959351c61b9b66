// Compiles src/tensor/block-sums.wat and writes it as base64 into src/tensor/block-sums-module.ts. Run after every change
// of the source: node scripts/build-simd.mjs
import { readFileSync, writeFileSync } from "node:fs";
import wabt from "wabt";

const folder = new URL("../src/tensor/", import.meta.url);

/** The module of the source as it stands, as bytes. */
export async function compileBlockSums() {
  const { parseWat } = await wabt();
  const source = parseWat("block-sums.wat", readFileSync(new URL("block-sums.wat", folder), "utf8"), { simd: true });
  try {
    source.validate({ simd: true });
    return source.toBinary({}).buffer;
  } finally {
    source.destroy();
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const text = Buffer.from(await compileBlockSums()).toString("base64");
  writeFileSync(
    new URL("block-sums-module.ts", folder),
    `// Made by scripts/build-simd.mjs from block-sums.wat.\n\n/** The WebAssembly module of \`BlockSums\`, in base64. */\nexport const blockSumsModule =\n${text
      .match(/.{1,108}/g)
      .map((line) => `  "${line}"`)
      .join(" +\n")};\n`,
  );
}
