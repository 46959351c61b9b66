import { parentPort, workerData } from "node:worker_threads";
import { type InvestigationSource, openInvestigation } from "../open-investigation.js";
import { checkUnit } from "./check-unit.js";
import type { Shares } from "./coverage.js";
import { toWire } from "./wire.js";

/** A thread that opens the recording for itself and checks the units it is given by name. */
const { investigation } = openInvestigation(workerData as InvestigationSource);

parentPort!.on("message", ({ names, shares }: { names: readonly string[]; shares: Shares }) => {
  parentPort!.postMessage(names.map((name) => toWire(investigation, checkUnit(investigation, name, shares))));
});
parentPort!.postMessage([]);
