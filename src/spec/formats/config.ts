import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import { parseJson } from "../../tensor/json.js";
import { matchesModule } from "./module-names.js";

const size = z
  .int()
  .positive()
  .max(2 ** 24);
const block = z.tuple([size, size]);

const numbersSchema = z.looseObject({
  num_bits: z.int().min(1).max(16),
  type: z.enum(["int", "float"]),
  strategy: z.string().max(40).nullish(),
  group_size: z.union([size, z.literal(-1), z.literal(0)]).nullish(),
  block_structure: z.union([block, z.string().max(20)]).nullish(),
  symmetric: z.boolean().nullish(),
  dynamic: z.union([z.boolean(), z.literal("local")]).nullish(),
  scale_dtype: z.string().max(40).nullish(),
});

/** Names of modules, or regular expressions for them. */
const modules = z.array(z.string().max(1000)).max(100_000);
const groupSchema = z.looseObject({
  targets: modules.nullish(),
  weights: numbersSchema.nullish(),
  input_activations: numbersSchema.nullish(),
});

/** How compressed-tensors describes the numbers of weights or activations. */
export type NumbersConfig = z.infer<typeof numbersSchema>;

const schema = z.looseObject({
  quant_method: z.string().max(60),
  bits: z.int().min(1).max(16).nullish(),
  group_size: z.union([size, z.literal(-1)]).nullish(),
  version: z.string().max(40).nullish(),
  checkpoint_format: z.string().max(40).nullish(),
  desc_act: z.boolean().nullish(),
  zero_point: z.boolean().nullish(),
  weight_block_size: block.nullish(),
  activation_scheme: z.enum(["dynamic", "static"]).nullish(),
  format: z.string().max(60).nullish(),
  scale_fmt: z.string().max(40).nullish(),
  config_groups: z.record(z.string().max(100), groupSchema).nullish(),
  modules_to_not_convert: modules.nullish(),
  ignore: modules.nullish(),
  exclude_modules: modules.nullish(),
});

/** `quantization_config` of a model's config.json, as far as weight formats ask. */
export interface QuantisationConfig extends z.infer<typeof schema> {
  /** File and field, for errors. */
  readonly origin: string;
}

type Group = z.infer<typeof groupSchema>;

/**
 * The quantisation a model folder declares; undefined where it declares none.
 * @throws InputError when config.json is no JSON or a field of `quantization_config` has another type.
 */
export function readQuantisationConfig(directory: string): QuantisationConfig | undefined {
  const path = join(directory, "config.json");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
  const json = parseJson(text, path);
  const origin = `${path}: quantization_config`;
  const declared = (json as { quantization_config?: unknown } | null)?.quantization_config;
  if (declared === undefined || declared === null) return undefined;
  const parsed = schema.safeParse(declared);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new InputError(`${[origin, ...issue.path.map(String)].join(".")}: ${issue.message}`);
  }
  return { ...parsed.data, origin };
}

/** Whether a module is said to be plain. What is in neither form of `matchesModule` is a pattern of some library's own. */
export function isSaidPlain(config: QuantisationConfig, module: string): boolean {
  return (["modules_to_not_convert", "ignore", "exclude_modules"] as const).some((field) =>
    config[field]?.some((entry, i) => matchesModule(entry, module, `${config.origin}.${field}.${i}`)),
  );
}

/**
 * The groups of compressed-tensors' config that are about a module, with their names: those which name it, else those of its
 * class. Which class that is the checkpoint does not say: all that name no module count.
 */
export function groupsFor({ config_groups, origin }: QuantisationConfig, module: string): [string, Group][] {
  const groups = Object.entries(config_groups ?? {});
  if (groups.length < 2) return groups;
  const field = (name: string) => `${origin}.config_groups.${name}.targets`;
  const naming = groups.filter(([name, { targets }]) =>
    targets?.some((target, i) => matchesModule(target, module, `${field(name)}.${i}`)),
  );
  const isClass = (target: string) => /^[A-Z]\w*$/.test(target);
  return naming.length > 0 ? naming : groups.filter(([, { targets }]) => !targets || targets.some(isClass));
}

/** Height and width of the blocks that share a scale, where a config names them. */
export function declaredBlock(config: QuantisationConfig): readonly [number, number] | undefined {
  if (config.weight_block_size) return config.weight_block_size;
  for (const { weights } of Object.values(config.config_groups ?? {})) {
    const structure = weights?.block_structure;
    if (Array.isArray(structure)) return structure;
    const text = typeof structure === "string" && /^(\d{1,6})x(\d{1,6})$/.exec(structure);
    if (text) return [Number(text[1]), Number(text[2])];
  }
  return undefined;
}

/** The numbers that compressed-tensors declares for weights of `type`. @throws InputError when it declares none. */
export function declaredNumbers(config: QuantisationConfig, type: "int" | "float"): readonly NumbersConfig[] {
  const all = Object.values(config.config_groups ?? {}).flatMap(({ weights }) => weights ?? []);
  const found = all.filter((numbers) => numbers.type === type);
  if (found.length === 0 && config.quant_method === "compressed-tensors") {
    throw new InputError(`${config.origin}.config_groups: expected weights of type "${type}", as the checkpoint has`);
  }
  return found;
}
