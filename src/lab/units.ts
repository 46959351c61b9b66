import { openCapture } from "../capture/reader.js";
import { chooseBiasPlace } from "../diagnose/check/bias-place.js";
import { Investigation, type UnitCheck } from "../diagnose/check/investigation.js";
import { choosePrecision } from "../diagnose/check/precision.js";
import { chooseRotary } from "../diagnose/check/rotary-choice.js";
import type { LabModel } from "./model.js";

/** Every unit of a capture, checked from its own recorded inputs by the spec alone: before any cause is sought. */
export function unitChecks(path: string, { config, parameters }: LabModel): UnitCheck[] {
  const capture = openCapture(path);
  try {
    const investigation = chooseBiasPlace(
      chooseRotary(choosePrecision(new Investigation(capture, config, parameters))),
    );
    return investigation.units().map(({ name }) => investigation.check(name));
  } finally {
    capture.close();
  }
}
