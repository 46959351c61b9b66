/** The same for vitest: it needs nothing but vitest and the files beside it. */
export const vitestFile = `// The unit of unit.json alone. Run: npx vitest run --globals --root THIS_FOLDER
//
// It judges what was recorded, and fails. Put the kernel to be tested into kernel() below, until it passes.
import { readFileSync } from "node:fs";

const unit = JSON.parse(readFileSync(new URL("unit.json", import.meta.url), "utf8"));

/** A .npy file of float32 or float64 numbers: its shape, and its numbers row by row. */
function load(file) {
  const bytes = readFileSync(new URL(file, import.meta.url));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 10 + view.getUint16(8, true);
  const header = bytes.toString("latin1", 10, start);
  const shape = /'shape': \\(([^)]*)\\)/.exec(header)[1].split(",").filter((n) => n.trim() !== "").map(Number);
  const narrow = header.includes("<f4");
  const count = shape.reduce((product, n) => product * n, 1);
  const at = (i) => (narrow ? view.getFloat32(start + 4 * i, true) : view.getFloat64(start + 8 * i, true));
  return { shape, values: Float64Array.from({ length: count }, (_, i) => at(i)) };
}

/**
 * The output [rows, columns] at unit.rows and unit.columns, row by row: any array of numbers.
 * inputs: by name { shape, values }; unit.inputs says which row is which token.
 * parameters: by name { shape, values }; unit.parameters says which rows these are.
 */
function kernel(inputs, parameters) {
  return load("data/observed.npy").values;
}

test(\`\${unit.unit} is right\`, () => {
  const inputs = Object.fromEntries(unit.inputs.map(({ key, file }) => [key, load(file)]));
  const copied = unit.parameters.filter(({ file }) => file !== null);
  const parameters = Object.fromEntries(copied.map(({ name, file }) => [name, load(file)]));
  const output = kernel(inputs, parameters);
  const { shape, values: expected } = load("data/expected.npy");
  const { values: farthest } = load("data/farthest.npy");
  if (output.length !== expected.length)
    throw new Error(\`expected an output of \${shape} numbers, found \${output.length}\`);
  let wrong = 0;
  let judged = 0;
  let squares = 0;
  let first = "";
  for (let i = 0; i < expected.length; i++) {
    if (!Number.isFinite(farthest[i])) continue;
    judged++;
    const apart = Math.abs(output[i] - expected[i]);
    if (farthest[i] > 0) squares += ((apart / farthest[i]) * unit.sigmas) ** 2;
    if (apart <= farthest[i]) continue;
    wrong++;
    const row = Math.floor(i / shape.at(-1));
    const where = \`row \${JSON.stringify(unit.rows[row] ?? row)}, column \${unit.columns[i % shape.at(-1)]}\`;
    first ||= \`\${where}: expected \${expected[i]} within \${farthest[i]}, found \${output[i]}\`;
  }
  if (wrong > 0)
    throw new Error(\`\${unit.unit}: \${wrong} of \${judged} elements are beyond rounding; the first, \${first}\`);
  if (unit.mean_square !== null && squares > unit.mean_square * judged)
    throw new Error(
      \`\${unit.unit}: no element alone is beyond rounding, all together are: their mean square is \${squares / judged} in units of their rounding, at most \${unit.mean_square} is chance\`,
    );
});
`;
