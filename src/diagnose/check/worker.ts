import { parentPort, workerData } from "node:worker_threads";
import { Deadline } from "../explain/deadline.js";
import { type InvestigationSource, openInvestigation } from "../open-investigation.js";
import { sensitivity } from "../visibility.js";
import { checkUnit } from "./check-unit.js";
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
