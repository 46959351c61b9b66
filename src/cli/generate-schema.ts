import { z } from "zod";
import type { Printed } from "../tensor/printed.js";

const tokens = z.array(z.int());

/** What `faultline generate --json` prints. */
export const generatedSchema = z.object({
  path: z.string(),
  device: z.string(),
  outputs: z.array(
    z.object({
      prompt: z.string(),
      promptTokenIds: tokens,
      tokenIds: tokens,
      text: z.string(),
      finish: z.string().optional().describe("why the text ends: length, stop, nonfinite"),
    }),
  ),
});

export type Generated = Printed<typeof generatedSchema>;
