import { parentPort, workerData } from "node:worker_threads";
import { checkUnit } from "../check/check-unit.js";
import { type InvestigationSource, openInvestigation } from "../check/open-investigation.js";
import { Deadline } from "../explain/deadline.js";
import { sensitivity } from "../explain/visibility.js";
import type { Answer, Question } from "./threads.js";
import { fromWire, toWire } from "./wire.js";

/** A thread that opens the recording for itself and answers questions about its units. */
const { investigation } = openInvestigation(workerData as InvestigationSource);

function answer(question: Question): Answer {
  if ("names" in question)
    return question.names.map((name) => toWire(investigation, checkUnit(investigation, name, question.shares)));
  const checks = question.checks.map((check) => fromWire(investigation, check));
  return { notVisible: sensitivity(investigation, checks, new Deadline(question.milliseconds)) };
}

parentPort!.on("message", (question: Question) => parentPort!.postMessage(answer(question)));
parentPort!.postMessage(undefined);
