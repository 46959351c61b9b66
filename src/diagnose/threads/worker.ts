import { parentPort, workerData } from "node:worker_threads";
import { type InvestigationSource, openInvestigation } from "../check/open-investigation.js";
import { Deadline } from "../explain/deadline.js";
import { sensitivity } from "../explain/visibility.js";
import type { Answer, Question } from "./threads.js";
import { checkBatch, fromWire } from "./wire.js";
import { take, type Work } from "./work.js";

/** A thread that opens the recording for itself, checks units as long as there are any, and then answers questions. */
const { work, ...source } = workerData as InvestigationSource & { work: Work };
const { investigation } = openInvestigation(source);
const say = (answer: Answer) => parentPort!.postMessage(answer);

parentPort!.on("message", ({ checks, milliseconds }: Question) => {
  const known = checks.map((check) => fromWire(investigation, check));
  say({ notVisible: sensitivity(investigation, known, new Deadline(milliseconds)) });
});
for (const names of take(work)) say(checkBatch(investigation, names, work.shares));
