import type { Checkpoint } from "../../tensor/checkpoint.js";
import type { DType } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import { awq } from "./awq.js";
import { isSaidPlain, type QuantisationConfig } from "./config.js";
import { fp8 } from "./fp8.js";
import { gptq } from "./gptq.js";
import { int8 } from "./int8.js";
import { mxfp4, mxfp4Experts } from "./mxfp4.js";
import { modeloptNvfp4, nvfp4 } from "./nvfp4.js";
import { packedIntegers } from "./packed-integers.js";
import { StoredWeight } from "./stored-weight.js";
import type { WeightFormat } from "./weight-format.js";

/** Every weight format there is. */
export const weightFormats: readonly WeightFormat[] = [
  fp8,
  int8,
  packedIntegers,
  awq,
  gptq,
  mxfp4,
  mxfp4Experts,
  nvfp4,
  modeloptNvfp4,
];

/** Endings of names that tensors of a weight format have, and the module's own weight. */
const endings = [...new Set(weightFormats.flatMap(({ parts }) => parts))].sort((a, b) => b.length - a.length);
/** Endings that say of themselves that something is quantised. */
const telling = new Set(endings.filter((ending) => ending !== ".weight" && !/input|activation/.test(ending)));
const narrow: ReadonlySet<DType> = new Set(["float8_e4m3fn", "float8_e5m2", "int8", "uint8", "int32"]);

/** A quantised parameter, and how it is kept. */
export interface LocatedWeight {
  readonly format: WeightFormat;
  readonly stored: StoredWeight;
}

/**
 * The quantised parameters of a checkpoint by name: the tensors that are there decide, and the config must agree.
 * @throws InputError where it does not.
 */
export function locateWeights(
  checkpoint: Checkpoint,
  config: QuantisationConfig | undefined,
): ReadonlyMap<string, LocatedWeight> {
  const located = new Map<string, LocatedWeight>();
  for (const [module, parts] of modulesOf(checkpoint)) {
    const sign = [...parts.keys()].find((ending) => telling.has(ending));
    const own = parts.get(".weight");
    const isBare = config && own !== undefined && narrow.has(checkpoint.dtype(own)!);
    if (sign === undefined && !isBare) continue;
    const tensor = parts.get(sign ?? ".weight")!;
    if (!config) {
      throw new InputError(
        `${checkpoint.directory}/config.json: quantization_config: expected it to say how tensors like "${tensor}" are quantised, found none`,
      );
    }
    const format = formatOf(checkpoint, config, tensor, parts);
    if (isSaidPlain(config, module)) {
      throw new InputError(
        `${config.origin}: "${module}" is among the modules that are not quantised, expected no tensor "${tensor}"`,
      );
    }
    const name = `${module}${format.parameter}`;
    const members = new Map(format.parts.flatMap((part) => (parts.has(part) ? [[part, parts.get(part)!]] : [])));
    located.set(name, { format, stored: new StoredWeight(checkpoint, config, name, module, members) });
  }
  if (config && located.size === 0 && declaresWeights(config)) {
    throw new InputError(
      `${config.origin}.quant_method: "${config.quant_method}": expected quantised weights in ${checkpoint.directory}, found none`,
    );
  }
  return located;
}

function declaresWeights({ quant_method, config_groups }: QuantisationConfig): boolean {
  return quant_method !== "compressed-tensors" || Object.values(config_groups ?? {}).some(({ weights }) => weights);
}

/** Tensors by what their names have in common, then by the rest of their names. */
function modulesOf(checkpoint: Checkpoint): Map<string, Map<string, string>> {
  const modules = new Map<string, Map<string, string>>();
  for (const name of checkpoint.names()) {
    const ending = endings.find((candidate) => name.endsWith(candidate));
    if (ending === undefined) continue;
    const module = name.slice(0, -ending.length);
    const parts = modules.get(module);
    if (parts) parts.set(ending, name);
    else modules.set(module, new Map([[ending, name]]));
  }
  return modules;
}

function formatOf(
  checkpoint: Checkpoint,
  config: QuantisationConfig,
  tensor: string,
  parts: ReadonlyMap<string, string>,
): WeightFormat {
  const method = config.quant_method;
  const types = new Map([...parts].map(([ending, name]) => [ending, checkpoint.dtype(name)!]));
  const claiming = weightFormats.filter((format) => format.claims(types, method));
  const found = claiming.find(({ methods }) => methods.includes(method));
  if (found) return found;
  if (claiming.length > 0) {
    const [{ title }] = claiming as [WeightFormat];
    const methods = claiming.flatMap((format) => format.methods).map((name) => `"${name}"`);
    throw new InputError(
      `${config.origin}.quant_method: expected ${methods.join(" or ")} for the ${title} of "${tensor}", found "${method}"`,
    );
  }
  const known = [...new Set(weightFormats.flatMap(({ methods }) => methods))];
  if (!known.includes(method)) {
    throw new InputError(`${config.origin}.quant_method: "${method}" is not one of ${known.join(", ")}`);
  }
  const ways = weightFormats.filter(({ methods }) => methods.includes(method)).map((format) => format.parts.join(" "));
  throw new InputError(
    `${checkpoint.fileOf(tensor)}: tensor "${tensor}": expected the tensors of "${method}" beside it (${ways.join("; ")}), found ${[...types].map((part) => part.join(" ")).join(", ")}`,
  );
}
