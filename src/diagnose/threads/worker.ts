import { parentPort, workerData } from "node:worker_threads";
import { type InvestigationSource, openInvestigation } from "../check/open-investigation.js";
import { searchEffects } from "./hidden-causes.js";
import type { Answer, CheckWork, Question } from "./threads.js";
import { adoptRoles, checkBatch, fromWire, settleRoles } from "./wire.js";
import { take } from "./work.js";

/** A thread that opens the recording for itself, settles recipes and checks units as long as there are any, and answers a question. */
const { work, ...source } = workerData as InvestigationSource & { work: CheckWork };
const { investigation } = openInvestigation(source);
const say = (answer: Answer) => parentPort!.postMessage(answer);

parentPort!.on("message", (question: Question) => {
  if (question.about === "units") {
    adoptRoles(investigation, question.settled);
    for (const names of take(work.batches))
      say({ about: "units", checks: checkBatch(investigation, names, work.shares) });
  } else {
    const { checks, witnesses, milliseconds } = question;
    const known = checks.map((check) => fromWire(investigation, check));
    say({ about: "effects", effects: searchEffects(investigation, known, witnesses, milliseconds) });
  }
});
for (const names of take(work.roles)) say({ about: "roles", settled: settleRoles(investigation, names) });
