import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../tensor/errors.js";
import { type NumberArray, npyBytes } from "./npy.js";
import { pytestFile } from "./pytest-file.js";
import type { UnitCase } from "./unit-case.js";
import type { WrittenRepro } from "./unit-schema.js";
import { vitestFile } from "./vitest-file.js";

/**
 * Writes a unit as a folder that needs nothing of faultline: `unit.json`, its numbers as `.npy`, a pytest and a vitest file.
 * @returns what was written, as `--json` prints it.
 * @throws InputError when the folder exists or cannot be made.
 */
export function writeRepro(unit: UnitCase, out: string): WrittenRepro {
  makeFolder(out);
  mkdirSync(join(out, "data"));
  const files: string[] = [];
  const put = (file: string, content: string | Uint8Array) => {
    writeFileSync(join(out, file), content, { flag: "wx" });
    files.push(file);
  };
  const write = (file: string, array: NumberArray) => put(file, npyBytes(array));
  const shape = [Math.max(1, unit.rows.length), unit.columns.length];
  write("data/expected.npy", { shape, values: unit.criterion.expected });
  write("data/farthest.npy", { shape, values: unit.criterion.farthest });
  write("data/observed.npy", { shape, values: unit.observed });
  const inputs = unit.inputs.map(({ values, readAt, ...input }, i) => {
    const file = `data/input-${i}.npy`;
    write(file, values);
    const key = readAt === undefined ? input.name : `${input.name} at step ${readAt}`;
    return { key, file, ...input, ...(readAt !== undefined && { read_at_step: readAt }) };
  });
  const parameters = unit.parameters.map(({ values, ...parameter }, i) => {
    const file = values ? `data/parameter-${i}.npy` : null;
    if (values) write(file!, values);
    return { ...parameter, file };
  });
  const { criterion, observed: _, ...rest } = unit;
  const described = {
    ...rest,
    inputs,
    parameters,
    criterion: criterion.by,
    recipe: criterion.recipe ?? null,
    sigmas: criterion.sigmas ?? 1,
    mean_square: criterion.meanSquare ?? null,
  };
  put("unit.json", `${onFewLines(JSON.stringify(described, plainNumbers, 1))}\n`);
  put("test_unit.py", pytestFile);
  put("unit.test.mjs", vitestFile);
  put("README.md", readme(unit));
  return {
    out,
    unit: unit.unit,
    statement: unit.statement,
    rows: shape[0]!,
    columns: shape[1]!,
    criterion: criterion.by,
    recipe: described.recipe,
    files,
    commands: [`python -m pytest ${out}/test_unit.py`, `npx vitest run --globals --root ${out}`],
  };
}

/** What JSON has no form for, in one that it has. */
function plainNumbers(_: string, value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number>);
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  return value;
}

/** Lists of numbers and objects that hold nothing but them on a line each. */
function onFewLines(json: string): string {
  return json.replace(/([[{])\s*\n([^[\]{}"]*|(?:\s*"\w+": -?[\d.e+-]+,?\n)*\s*)([\]}])/g, (_, open, inside, close) => {
    return `${open}${inside.trim().replace(/\s*\n\s*/g, " ")}${close}`;
  });
}

function makeFolder(out: string): void {
  try {
    mkdirSync(out);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") throw new InputError(`--out: ${out}: expected a folder that does not exist yet`);
    if (code === "ENOENT") throw new InputError(`--out: ${out}: expected a new folder inside one that exists`);
    throw new InputError(`--out: ${out}: expected a folder that can be made, found ${code}`);
  }
}

const criteria = {
  rounding:
    "An element is right within `farthest` of `expected`: the float64 value, and as far as correct kernels of these types may round from it. Any legal rounding passes.",
  bits: "An element is right within `farthest` of `expected`: the value under the recipe by which this kernel rounds, half an ulp, and what the order of summation may flip.",
  equal: "Nothing is computed here: what is read must be what was produced.",
};

function readme({ unit, statement, criterion, inputs, parameters }: UnitCase): string {
  const missing = parameters.filter(({ values }) => !values).map(({ name }) => name);
  const what = [
    ...(inputs.length > 0 ? ["the inputs as the unit addressed them"] : []),
    ...(parameters.length > missing.length ? ["the rows of its parameters that it used"] : []),
    "",
  ];
  return `# ${unit}

${statement}.

* \`python -m pytest test_unit.py\` (numpy), or \`npx vitest run --globals --root .\`, fails until \`kernel()\` in the file is a right one. As it is, it returns what was recorded.
* \`unit.json\`: the ops of the unit, their attributes, and which tokens the rows are. \`data/*.npy\`: ${what.join(", ")}\`expected\`, \`farthest\`, \`observed\`.
* ${criteria[criterion.by]}${criterion.recipe ? ` Recipe: ${criterion.recipe}.` : ""}
${missing.length > 0 ? `* Too large to copy, to be read from the checkpoint: ${missing.join(", ")}.\n` : ""}`;
}
