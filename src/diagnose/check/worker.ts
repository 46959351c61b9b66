import { parentPort, workerData } from "node:worker_threads";
import { type InvestigationSource, openInvestigation } from "../open-investigation.js";
import { checkUnit } from "./check-unit.js";
import { toWire } from "./wire.js";

/** A thread that opens the recording for itself and checks the units it is given by name. */
const { investigation } = openInvestigation(workerData as InvestigationSource);

parentPort!.on("message", ({ names, share }: { names: readonly string[]; share: number }) => {
  parentPort!.postMessage(names.map((name) => toWire(investigation, checkUnit(investigation, name, share))));
});
parentPort!.postMessage([]);
