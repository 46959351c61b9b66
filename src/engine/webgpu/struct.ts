import type { ParameterBlock, ScalarType } from "../device/parameter-block.js";

/** A parameter block as a WGSL struct. */
export function wgslStruct({ name, fields }: ParameterBlock): string {
  const members = Object.entries<ScalarType>(fields).map(([field, type]) => `  ${field}: ${type},`);
  return `struct ${name} {\n${members.join("\n")}\n}\n`;
}
