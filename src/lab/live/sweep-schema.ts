import { z } from "zod";
import { printed, whole } from "../../tensor/printed.js";
import type { SettingEffect } from "./sweep.js";

const beside = <Schema extends z.ZodType>(schema: Schema) => z.object({ without: schema, with: schema });
const share = z.object({ changed: whole, of: whole });
const value = share.extend({
  value: z.string(),
  largest: beside(z.number()).describe("largest finite magnitude"),
  nonFinite: beside(whole).describe("NaN and infinities"),
});

/** What a setting does, as `faultline sweep --json` prints it. */
const effectSchema = printed<SettingEffect>()(
  z.object({
    setting: z.string().describe("as it was asked for"),
    values: share.describe("values of which a bit has changed, of those that both runs have"),
    elements: share,
    nonFinite: beside(whole),
    first: value.nullable().describe("the first value that changes beyond rounding; null where none does"),
    layers: z.array(value.extend({ layer: whole, elements: share })).describe("the stream behind each layer"),
    logits: value.nullable(),
    tokenIds: beside(z.array(z.int())).describe("the greedy continuation"),
    sameText: z.boolean(),
  }),
);

/** What `faultline sweep --json` prints. */
export const sweepSchema = z.object({
  path: z.string(),
  device: z.string(),
  prompt: z.string(),
  promptTokenIds: z.array(z.int()),
  faults: z.array(z.string()),
  settings: z.array(effectSchema.extend({ text: beside(z.string()) })),
});
