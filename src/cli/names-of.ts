import type { RunPath } from "../capture/ranks.js";
import type { Dump } from "../importers/dump.js";
import { type NameMap, readNames } from "../importers/names-file.js";
import { isForeign, openDump } from "../importers/recording.js";
import { type Mapping, mapNames } from "../names/map-names.js";
import { progressLine } from "../report/progress.js";
import { ModelParameters } from "../spec/formats/model-parameters.js";
import { readModelConfig } from "../spec/models/config-file.js";
import { InputError } from "../tensor/errors.js";

/** Maps a dump onto a model, with progress on stderr unless it is told to somebody else. */
export function mapOnto(dump: Dump, model: string, told?: (stage: string, done: number) => void): Mapping {
  const { config } = readModelConfig(model);
  const parameters = new ModelParameters(model);
  const progress = progressLine();
  try {
    return mapNames(dump, config, parameters, (done) => (told ?? progress.report)("mapping names", done));
  } finally {
    progress.clear();
    parameters.close();
  }
}

/**
 * The names of a recording: those of a file, or for someone else's format those that leave no doubt; none for our own.
 * @throws InputError when there is doubt: a person has to look.
 */
export function namesFor(target: RunPath, model: string, file: string | undefined): NameMap | undefined {
  if (file !== undefined) return readNames(file);
  if (!isForeign(target)) return undefined;
  const path = typeof target === "string" ? target : target[0]!;
  const { names, isSure } = mapOnto(openDump(path), model);
  if (isSure && names.values.length > 0) return names;
  const doubt = names.values.find(({ unsure }) => unsure);
  const which = doubt
    ? `"${doubt.tensor}" as ${doubt.value} is likely, but not sure`
    : "nothing in it is a value of this model for sure";
  throw new InputError(
    `${path}: expected names that leave no doubt: ${which}; run faultline names ${path} --model ${model}, correct the file it writes, and give it as --names`,
  );
}
