import { InputError } from "../../tensor/errors.js";
import { bounded } from "./bounded.js";
import { HeldRun } from "./held-run.js";
import type { Called, Reply } from "./tool-caller.js";
import { tools } from "./tools.js";

// A program of its own: what it works on keeps no message of the client waiting, and a call that is cancelled ends with it.
const held = new HeldRun();
const reply = (message: Reply) => process.send?.(message);

process.on("disconnect", () => process.exit());
process.on("message", async ({ name, input, limit }: Called) => {
  const { answer, lessImportant } = tools.find((tool) => tool.name === name)!;
  try {
    const found = await answer(input as never, { held, told: (stage, done) => reply({ stage, done }) });
    reply({ answer: bounded(found, limit, lessImportant) });
  } catch (error) {
    if (error instanceof InputError) reply({ problem: error.message });
    else reply({ problem: `${name}: a fault of faultline itself: ${(error as Error).message}` });
  }
});
