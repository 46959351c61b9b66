import { z } from "zod";
import { type Printed, whole } from "../tensor/printed.js";

/** What `faultline import --json` prints. */
export const importedSchema = z.object({
  out: z.string().describe("the capture directory that was written"),
  values: whole,
  steps: whole,
});

export type Imported = Printed<typeof importedSchema>;
