import { InputError } from "../../tensor/errors.js";
import { type InvestigationSource, openInvestigation } from "../check/open-investigation.js";
import { checkedAs } from "./check-recording.js";
import { expectChecks } from "./check-schema.js";
import { hiddenCauses } from "./hidden-causes.js";
import { digestsOf, readPart } from "./part-file.js";
import { type Checked, underSuggestedMask } from "./suggested-mask.js";
import { fromWire } from "./wire.js";

/**
 * The checks of a recording from those of all its shares.
 * @param paths the parts that `checkShare` wrote, in any order.
 * @throws InputError when a part is missing, there twice, of another recording or model, or not of this recording's units.
 */
export async function mergeParts(
  paths: readonly string[],
  source: InvestigationSource,
  progress: (done: number) => void,
): Promise<Checked & { note?: string }> {
  const parts = paths.map((path) => ({ path, ...readPart(path) }));
  expectAll(parts);
  const { recording, model } = digestsOf(source);
  for (const part of parts) {
    for (const [what, own, given] of [
      ["recording", part.recording, recording],
      ["model", part.model, model],
    ] as const) {
      if (own !== given)
        throw new InputError(
          `${part.path}: ${what}: expected a part of this ${what}, found one of another: their bytes differ`,
        );
    }
  }
  const { investigation, close } = openInvestigation(source);
  try {
    const found = new Map(parts.flatMap(({ path, checks }) => checks.map((check) => [check.name, { path, check }])));
    for (const { path, check } of found.values()) expectChecks(investigation, { ...complete, ...check }, path);
    const checks = investigation.units().map(({ name }) => {
      const one = found.get(name);
      if (!one)
        throw new InputError(`${parts[0]!.path}: checks: expected every unit in one of the parts, ${name} is in none`);
      return fromWire(investigation, { ...complete, ...one.check });
    });
    const merged = { investigation, checks, close, hiddenCauses: () => hiddenCauses(investigation, checks), end() {} };
    return await underSuggestedMask(merged, source, (as) => checkedAs(as, progress));
  } catch (error) {
    close();
    throw error;
  }
}

/** What JSON leaves out. */
const complete = { recipe: undefined, bits: undefined, suspects: undefined, settled: undefined };

/** @throws InputError unless the parts are 1 to n of n, each once. */
function expectAll(parts: readonly { path: string; part: number; of: number }[]): void {
  const [first] = parts;
  if (!first) throw new InputError("expected the parts of a diagnosis, found no path");
  const seen = new Map<number, string>();
  for (const { path, part, of } of parts) {
    if (of !== first.of)
      throw new InputError(`${path}: of: expected a part of ${first.of} as ${first.path} is, found one of ${of}`);
    if (seen.has(part))
      throw new InputError(`${path}: part: expected every part once, ${seen.get(part)} is part ${part} too`);
    seen.set(part, path);
  }
  const missing = Array.from({ length: first.of }, (_, i) => i + 1).filter((part) => !seen.has(part));
  if (missing.length > 0)
    throw new InputError(
      `${first.path}: of: expected all ${first.of} parts, missing ${missing.slice(0, 8).join(", ")}${missing.length > 8 ? ", …" : ""}`,
    );
}
