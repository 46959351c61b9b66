import type { ParameterBlock } from "../device/parameter-block.js";
import { wgslStruct } from "./struct.js";
import { keepLoops, unroll } from "./unroll.js";

/** Which kernel, and the constants that specialise it. */
export interface KernelRequest {
  /** Name of a file in `kernels/`, without `.wgsl`. */
  readonly name: string;
  /** Further files whose functions it uses, put before it. */
  readonly modules?: readonly string[];
  /** Parameter blocks whose structs it uses. */
  readonly blocks?: readonly ParameterBlock[];
  /** Values of its `override` constants. */
  readonly constants?: Readonly<Record<string, number | boolean>>;
}

/**
 * The WGSL of one variant. `override` constants become `const`, because array lengths and unrolled loops need them
 * before pipeline creation; directives go first, then structs, then the files in order; marked loops are unrolled
 * unless `unrolls` is false.
 * @throws Error when a constant is unknown, or has neither a value nor a default.
 */
export function specialise(request: KernelRequest, files: readonly string[], unrolls = true): string {
  const given = new Map(Object.entries(request.constants ?? {}));
  const directives = new Set<string>();
  const body = files
    .join("\n")
    .replace(/^(enable|requires|diagnostic)\b.*;$/gm, (line) => {
      directives.add(line);
      return "";
    })
    .replace(/^override (\w+): (\w+)(?: = ([^;]+))?;/gm, (_, name: string, type: string, standard?: string) => {
      const value = given.get(name);
      given.delete(name);
      if (value === undefined && standard === undefined) {
        throw new Error(`kernel ${request.name}: constant ${name} has no value`);
      }
      return `const ${name}: ${type} = ${value === undefined ? standard : literal(value, type)};`;
    });
  for (const name of given.keys()) throw new Error(`kernel ${request.name} has no constant ${name}`);
  const structs = (request.blocks ?? []).map(wgslStruct);
  const code = [...directives, ...structs, body].join("\n");
  return unrolls ? unroll(code) : keepLoops(code);
}

function literal(value: number | boolean, type: string): string {
  if (type === "bool") return value ? "true" : "false";
  return type === "f32" ? `f32(${Number(value)})` : `${Number(value)}${type === "u32" ? "u" : "i"}`;
}
