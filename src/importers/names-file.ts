import { readFileSync, statSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { InputError } from "../tensor/errors.js";
import { parseJson } from "../tensor/json.js";

const maxBytes = 2 ** 26;
const maxEntries = 2 ** 20;
const name = z.string().min(1).max(300);
const tensor = z.string().min(1).max(500);
const count = z
  .int()
  .nonnegative()
  .max(2 ** 40);

const placementSchema = z.strictObject({
  /** What the dump calls it. */
  tensor,
  /** The spec's name of the value that it holds. */
  value: name,
  /** First column and how many, where the tensor holds several values side by side. */
  columns: z.tuple([count, count.positive()]).optional(),
  /** Which of the values along the first axis, where they are stacked. */
  index: count.optional(),
  /** Heads, where every head of a token has a row of its own. */
  heads: z
    .int()
    .positive()
    .max(2 ** 16)
    .optional(),
  /** Order of the axes, in the letters of the capture format. */
  dims: z.string().max(40).optional(),
  role: z.enum(["output", "input"]).optional(),
  /** Who reads it, where it is recorded as its reader addressed it. */
  by: z.string().max(200).optional(),
  /** How it was found, for people; `unsure` where a person has to agree. */
  evidence: z.string().max(1000).optional(),
  unsure: z.boolean().optional(),
});

/** A file of names, and what `faultline names --json` prints. */
export const namesSchema = z.strictObject({
  format: z.literal("faultline-names"),
  version: z.literal(1),
  /** Tensors that hold tokens and what belongs to them. */
  tokens: z
    .strictObject({
      input_ids: tensor,
      positions: tensor.optional(),
      lengths: tensor.optional(),
      sequences: tensor.optional(),
      attention_mask: tensor.optional(),
    })
    .optional(),
  /** Tokens by step, where no tensor holds them. */
  token_ids: z.record(z.string().regex(/^\d{1,9}$/), z.array(count).max(2 ** 22)).optional(),
  values: z.array(placementSchema).max(maxEntries),
  /** What was not placed; not read. */
  unplaced: z
    .array(z.strictObject({ tensor, shape: z.string().max(100).optional(), why: z.string().max(1000) }))
    .optional(),
});

/** Which value of the spec each tensor of a dump is. */
export type NameMap = z.infer<typeof namesSchema>;
/** What one tensor of a dump, or a part of it, is. */
export type Placement = z.infer<typeof placementSchema>;

/** @throws InputError naming the field when it is no file of names. */
export function readNames(path: string): NameMap {
  let text: string;
  try {
    if (!statSync(path).isFile() || statSync(path).size > maxBytes)
      throw new InputError(`${path}: expected a file of at most ${maxBytes} bytes`);
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(`${path}: expected a file that faultline names wrote, but there is none that can be read`);
  }
  const parsed = namesSchema.safeParse(parseJson(text, path));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new InputError(`${path}: ${issue.path.map(String).join(".") || "names"}: ${issue.message}`);
}

/** One placement per line, to be read and corrected. @throws InputError when the file exists: nothing is overwritten. */
export function writeNames(path: string, names: NameMap): void {
  const fields = Object.entries(names).flatMap(([key, value]) => {
    if (value === undefined) return [];
    const list =
      Array.isArray(value) && value.length > 0
        ? `[\n${value.map((item) => `    ${JSON.stringify(item)}`).join(",\n")}\n  ]`
        : null;
    return [`  ${JSON.stringify(key)}: ${list ?? JSON.stringify(value)}`];
  });
  try {
    writeFileSync(path, `{\n${fields.join(",\n")}\n}\n`, { flag: "wx" });
  } catch {
    throw new InputError(`${path}: expected a new file for the names, in a folder that can be written to`);
  }
}
