import { parentPort, workerData } from "node:worker_threads";
import { type InvestigationSource, openInvestigation } from "../check/open-investigation.js";
import { searchEffects } from "./hidden-causes.js";
import type { Answer, CheckWork, Question } from "./threads.js";
import { checkBatch, fromWire } from "./wire.js";
import { take } from "./work.js";

/** A thread that opens the recording for itself, checks units as long as there are any, and then answers a question. */
const { work, ...source } = workerData as InvestigationSource & { work: CheckWork };
const { investigation } = openInvestigation(source);
const say = (answer: Answer) => parentPort!.postMessage(answer);

parentPort!.on("message", ({ checks, witnesses, milliseconds }: Question) => {
  const known = checks.map((check) => fromWire(investigation, check));
  say(searchEffects(investigation, known, witnesses, milliseconds));
});
for (const names of take(work.batches)) say(checkBatch(investigation, names, work.shares));
