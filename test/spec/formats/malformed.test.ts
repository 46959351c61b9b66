import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ModelParameters } from "../../../src/spec/formats/model-parameters.js";
import { encode } from "../../../src/tensor/dtype.js";
import { InputError } from "../../../src/tensor/errors.js";
import { SafetensorsFile, type TensorBytes, writeSafetensors } from "../../../src/tensor/safetensors.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-test-formats-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let made = 0;

interface Parts {
  readonly config: Record<string, unknown>;
  readonly tensors: Map<string, TensorBytes>;
}

/** A golden checkpoint with something changed in it. */
function changed(golden: string, change: (parts: Parts) => void): string {
  const source = join("test/golden/formats", golden);
  const file = new SafetensorsFile(join(source, "model.safetensors"));
  const tensors = new Map(
    [...file.entries.values()].map((entry): [string, TensorBytes] => {
      const { name, dtype, shape } = entry;
      return [name, { name, dtype, shape, bytes: file.readBytes(entry) }];
    }),
  );
  file.close();
  const json = JSON.parse(readFileSync(join(source, "config.json"), "utf8")) as {
    quantization_config: Parts["config"];
  };
  const parts = { config: json.quantization_config, tensors };
  change(parts);
  const path = join(folder, String(made++));
  mkdirSync(path);
  writeFileSync(join(path, "config.json"), JSON.stringify("gone" in parts.config ? {} : json));
  writeSafetensors(join(path, "model.safetensors"), [...tensors.values()]);
  return path;
}

/** Opens every parameter, as a diagnosis does first, and reads it. */
function readAll(path: string): void {
  const parameters = new ModelParameters(path);
  try {
    for (const name of parameters.names()) {
      const shape = parameters.shape(name)!;
      parameters.rows(name, 0, shape.length < 2 ? 1 : shape[0]!);
    }
  } finally {
    parameters.close();
  }
}

const set = ({ tensors }: Parts, tensor: TensorBytes) => tensors.set(tensor.name, tensor);
const zeros = (name: string, dtype: TensorBytes["dtype"], shape: readonly number[]): TensorBytes => {
  const count = shape.reduce((product, n) => product * n, 1);
  return { name, dtype, shape, bytes: encode(new Float64Array(count), dtype) };
};
const drop = (name: string) => (parts: Parts) => void parts.tensors.delete(name);
const replace = (name: string, dtype: TensorBytes["dtype"], shape: readonly number[]) => (parts: Parts) =>
  void set(parts, zeros(name, dtype, shape));
const configured = (fields: Record<string, unknown>) => (parts: Parts) => void Object.assign(parts.config, fields);
const withValues = (name: string, change: (values: Float64Array) => ArrayLike<number>, dtype: TensorBytes["dtype"]) => {
  return (parts: Parts) => {
    const { shape } = parts.tensors.get(name)!;
    const count = shape.reduce((product, n) => product * n, 1);
    set(parts, { name, dtype, shape, bytes: encode(change(new Float64Array(count)), dtype) });
  };
};
const groupsOf = (parts: Parts) => parts.config.config_groups as Record<string, { weights: Record<string, unknown> }>;

const cases: readonly (readonly [title: string, golden: string, change: (parts: Parts) => void, expected: RegExp])[] = [
  // What the config and the tensors say of each other.
  [
    "quantised tensors and no config",
    "fp8-blocks",
    configured({ gone: true }),
    /config\.json: quantization_config: expected it to say how tensors like "a\.weight_scale_inv" are quantised, found none/,
  ],
  [
    "a method nobody knows",
    "fp8-blocks",
    configured({ quant_method: "hqq" }),
    /quant_method: expected "fp8" or .*, found "hqq"/,
  ],
  [
    "a method of other tensors",
    "gptq",
    configured({ quant_method: "fp8" }),
    /model\.safetensors: tensor "a\.g_idx": expected the tensors of "fp8" beside it/,
  ],
  [
    "a known method, and another one's tensors",
    "int8",
    configured({ quant_method: "awq" }),
    /quant_method: expected "compressed-tensors" for the int8 with scales of "\w\.weight_scale", found "awq"/,
  ],
  [
    "a config and nothing quantised",
    "awq",
    (parts) => {
      for (const part of ["qweight", "qzeros", "scales"]) parts.tensors.delete(`a.${part}`);
    },
    /quant_method: "awq": expected quantised weights in .*, found none/,
  ],
  [
    "a module that is said to be plain",
    "fp8-blocks",
    configured({ modules_to_not_convert: ["a"] }),
    /"a" is among the modules that are not quantised, expected no tensor "a\.weight_scale_inv"/,
  ],
  [
    "fp8 and no scale",
    "fp8-rows",
    drop("a.weight_scale"),
    /tensor "a\.weight": expected the tensors of "fbgemm_fp8" beside it .*, found \.weight float8_e4m3fn/,
  ],
  [
    "a scale and no weight",
    "fp8-rows",
    drop("a.weight"),
    /tensor "a\.weight_scale": expected the tensors of "fbgemm_fp8" beside it/,
  ],
  [
    "a config that is none",
    "awq",
    configured({ group_size: "wide" }),
    /config\.json: quantization_config\.group_size: /,
  ],
  // Scales.
  [
    "scales of other blocks",
    "fp8-blocks",
    replace("a.weight_scale_inv", "float32", [3, 4]),
    /tensor "a\.weight_scale_inv": expected 1 scale or \[48, 1\] or \[3, 3\], found \[3, 4\]/,
  ],
  [
    "scales of another type",
    "fp8-blocks",
    replace("a.weight_scale_inv", "int32", [3, 3]),
    /expected float32 or bfloat16 or float16 or uint8, found int32/,
  ],
  [
    "scales that are no numbers",
    "fp8-blocks",
    withValues("a.weight_scale_inv", (v) => v.fill(Number.NaN), "float32"),
    /tensor "a\.weight_scale_inv": expected numbers, found NaN in its first row/,
  ],
  [
    "too few rows of scales",
    "int8",
    replace("a.weight_scale", "bfloat16", [19, 1]),
    /tensor "a\.weight_scale": expected 1 scale or \[20, 1\] or blocks of \[20, 48\], found \[19, 1\]/,
  ],
  [
    "a weight without elements",
    "fp8-rows",
    replace("a.weight", "float8_e4m3fn", [0, 48]),
    /tensor "a\.weight": expected elements, found \[0, 48\]/,
  ],
  [
    "a weight of three axes",
    "fp8-rows",
    replace("a.weight", "float8_e4m3fn", [2, 10, 48]),
    /tensor "a\.weight": expected 2 axes, found \[2, 10, 48\]/,
  ],
  [
    "a zero point of another shape",
    "int8",
    replace("b.weight_zero_point", "int8", [20, 1]),
    /tensor "b\.weight_zero_point": expected shape \[1\], found \[20, 1\]/,
  ],
  // Packed integers.
  [
    "a shape that the words do not hold",
    "packed-integers",
    withValues("a.weight_shape", () => [20, 4096], "int64"),
    /tensor "a\.weight_packed": expected shape \[20, 512\] or \[20, 1024\], as weight_shape says, found \[20, 12\]/,
  ],
  [
    "a shape beyond all bounds",
    "packed-integers",
    withValues("a.weight_shape", () => [2 ** 40, 2 ** 40], "int64"),
    /tensor "a\.weight_shape": expected numbers of outputs and inputs/,
  ],
  [
    "a shape of three numbers",
    "packed-integers",
    replace("a.weight_shape", "int64", [3]),
    /tensor "a\.weight_shape": expected shape \[2\], found \[3\]/,
  ],
  [
    "zero points that do not fit",
    "packed-integers",
    replace("b.weight_zero_point", "int32", [2, 3]),
    /tensor "b\.weight_zero_point": expected shape \[3, 3\], found \[2, 3\]/,
  ],
  [
    "bits that the config denies",
    "packed-integers",
    (parts) => {
      for (const group of Object.values(groupsOf(parts))) group.weights.num_bits = 3;
    },
    /config_groups: num_bits: "a\.weight" has 4, expected so, found 3 or 3/,
  ],
  [
    "no weights declared as integers",
    "packed-integers",
    (parts) => {
      for (const group of Object.values(groupsOf(parts))) group.weights.type = "float";
    },
    /config_groups: expected weights of type "int", as the checkpoint has/,
  ],
  // AWQ and GPTQ.
  ["AWQ of 8 bits", "awq", configured({ bits: 8 }), /quantization_config\.bits: expected 4 for AWQ, found 8/],
  ["AWQ's other version", "awq", configured({ version: "gemv" }), /version: expected "gemm", found "gemv"/],
  [
    "a group size that does not divide",
    "awq",
    configured({ group_size: 48 }),
    /group_size: expected a divisor of the 64 inputs of "a\.weight", found 48/,
  ],
  [
    "no group size",
    "gptq",
    configured({ group_size: null }),
    /group_size: expected a divisor of the 64 inputs of "a\.weight", found null/,
  ],
  ["a group size below 0", "gptq", configured({ group_size: -7 }), /quantization_config\.group_size: /],
  [
    "AWQ's scales in another shape",
    "awq",
    replace("a.scales", "float16", [24, 2]),
    /tensor "a\.scales": expected shape \[2, 24\], found \[24, 2\]/,
  ],
  [
    "no zero points",
    "awq",
    drop("a.qzeros"),
    /tensor "a\.qweight": expected a tensor "\.qzeros" beside it, found none/,
  ],
  ["GPTQ of 3 bits", "gptq", configured({ bits: 3 }), /bits: expected 2, 4 or 8 for GPTQ, found 3/],
  [
    "GPTQ's zero points in another shape",
    "gptq",
    replace("a.qzeros", "int32", [4, 2]),
    /tensor "a\.qzeros": expected shape \[4, 3\], found \[4, 2\]/,
  ],
  [
    "a version of GPTQ nobody knows",
    "gptq",
    configured({ checkpoint_format: "marlin" }),
    /checkpoint_format: expected "gptq" or "gptq_v2", found "marlin"/,
  ],
  [
    "groups beyond the scales",
    "gptq-order",
    withValues("a.g_idx", (v) => v.fill(4), "int32"),
    /tensor "a\.g_idx": expected groups from 0 to 3, found 4/,
  ],
  [
    "groups below 0",
    "gptq-order",
    withValues("a.g_idx", (v) => v.fill(-1), "int32"),
    /tensor "a\.g_idx": expected groups from 0 to 3, found -1/,
  ],
  [
    "too few groups",
    "gptq-order",
    replace("a.g_idx", "int32", [63]),
    /tensor "a\.g_idx": expected shape \[64\], found \[63\]/,
  ],
  [
    "an order that is declared and not there",
    "gptq-order",
    drop("a.g_idx"),
    /expected a tensor "\.g_idx" beside it, found none/,
  ],
  // fp4.
  [
    "MXFP4 scales that do not fit",
    "mxfp4-experts",
    replace("mlp.experts.gate_up_proj_scales", "uint8", [3, 10, 3]),
    /tensor "mlp\.experts\.gate_up_proj_scales": expected shape \[3, 10, 2\], found \[3, 10, 3\]/,
  ],
  [
    "MXFP4 blocks of another size",
    "mxfp4-experts",
    replace("mlp.experts.gate_up_proj_blocks", "uint8", [3, 10, 2, 8]),
    /expected groups of 16 bytes, found \[3, 10, 2, 8\]/,
  ],
  [
    "MXFP4 rows of half a group",
    "mxfp4",
    replace("a.weight_packed", "uint8", [20, 24]),
    /expected rows of a multiple of 16 bytes, found \[20, 24\]/,
  ],
  [
    "NVFP4 scales that do not fit",
    "nvfp4",
    replace("a.weight_scale", "float8_e4m3fn", [20, 5]),
    /tensor "a\.weight_scale": expected shape \[20, 6\], found \[20, 5\]/,
  ],
  [
    "a global scale per row",
    "nvfp4",
    replace("a.weight_global_scale", "float32", [20]),
    /tensor "a\.weight_global_scale": expected shape \[1\] or \[\], found \[20\]/,
  ],
  [
    "ModelOpt's weight in halves of groups",
    "modelopt-nvfp4",
    replace("a.weight", "uint8", [12, 28]),
    /tensor "a\.weight": expected rows of a multiple of 8 bytes, found \[12, 28\]/,
  ],
];

describe("a quantised checkpoint that is not what it says", () => {
  it.each(cases)("is refused in one sentence: %s", (_, golden, change, expected) => {
    const path = changed(golden, change);
    expect(() => readAll(path)).toThrow(InputError);
    expect(() => readAll(path)).toThrow(expected);
  });

  it.each([...new Set(cases.map(([, golden]) => golden))])("is read where nothing was changed: %s", (golden) => {
    readAll(changed(golden, () => {}));
  });

  it("stays plain where a module is plain, whatever the config says of others", () => {
    const path = changed("fp8-blocks", (parts) => set(parts, zeros("c.weight", "bfloat16", [16, 32])));
    const parameters = new ModelParameters(path);
    expect(parameters.quantised("c.weight")).toBeUndefined();
    expect(parameters.stored("c.weight")?.dtype).toBe("bfloat16");
    expect(parameters.quantised("a.weight")).toBeDefined();
    expect(parameters.stored("a.weight")).toBeUndefined();
    expect([...parameters.names()].sort()).toEqual(["a.weight", "b.weight", "c.weight", "norm.weight"]);
    expect(() => parameters.bytes("a.weight")).toThrow(/"a\.weight": expected a plain weight, found fp8 with scales/);
    parameters.close();
  });
});
