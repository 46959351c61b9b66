import { Investigation } from "./investigation.js";

/**
 * Rows padded on the left may be rotated by their place in the sequence or by their column; where no positions were
 * recorded, the recorded rotations tell. What attention gives is the same either way.
 */
export function chooseRotary(investigation: Investigation): Investigation {
  const { capture, config, parameters, observations, precision } = investigation;
  const { rows } = observations;
  if (rows.rotaryChoices.length < 2) return investigation;
  const turning = investigation
    .units()
    .filter(
      ({ name }) => !investigation.isDeep(name) && investigation.interior(name).some(({ op }) => op.kind === "rope"),
    );
  const tried = rows.rotaryChoices.map((convention) => {
    rows.rotary = convention;
    const under = new Investigation(capture, config, parameters, { observations, precision });
    const checks = turning.map(({ name }) => under.check(name));
    const failing = checks.filter(({ excess }) => excess > 1).length;
    return { convention, under, failing, rmsZ: checks.reduce((sum, { statistics }) => sum + statistics.rmsZ, 0) };
  });
  const [best] = tried.sort((a, b) => a.failing - b.failing || a.rmsZ - b.rmsZ);
  rows.rotary = best!.convention;
  return best!.under;
}
