import type { Quantisation } from "../../spec/quantisation.js";
import { type NarrowFormat, narrowFormats } from "../../tensor/narrow-format.js";

/** A quantisation with the words people have for it. */
export interface NamedQuantisation extends Quantisation {
  /** Parameters of a cause: format and granularity. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly title: string;
}

const { e4m3, e5m2, bfloat16, float16, int8, int4, fp4, nf4 } = narrowFormats;

function named(
  format: NarrowFormat,
  granularity: string,
  tile: Quantisation["tile"],
  more: Partial<Quantisation> = {},
): NamedQuantisation {
  const scaling = more.scaling ?? "magnitude";
  const what = scaling === "range" ? `${format.id} with zero point` : format.id;
  const scale = more.scaleType && more.scaleType !== "float32" ? `, scale in ${more.scaleType}` : "";
  return {
    format,
    tile,
    scaling,
    scaleType: more.scaleType ?? "float32",
    parameters: { format: what, granularity: `${granularity}${scale}` },
    title: `${scaling === "none" ? `${format.title}, cast without a scale` : `${what === format.id ? format.title : what}, a scale ${granularity}${scale}`}`,
  };
}

const all = Infinity;
const cast = (format: NarrowFormat) => named(format, "none", { rows: all, columns: all }, { scaling: "none" });
const range = { scaling: "range" } as const;

/** Of a weight [output channels, inputs]. */
export function weightQuantisations(store: "float16" | "bfloat16" | "float32"): NamedQuantisation[] {
  const tensor = { rows: all, columns: all };
  const row = { rows: 1, columns: all };
  const group = (columns: number) => ({ rows: 1, columns });
  const perTensor = "per tensor";
  const perRow = "per output channel";
  const perGroup = (size: number) => `per group of ${size} inputs`;
  const groups = [32, 64, 128].flatMap((size) => [
    named(int4, perGroup(size), group(size)),
    named(int4, perGroup(size), group(size), range),
    named(int8, perGroup(size), group(size)),
  ]);
  const narrowScale = store === "float32" ? (["float16"] as const) : ([store] as const);
  return [
    // A scale per row first: it is known without reading the whole weight.
    named(e4m3, perRow, row),
    named(e4m3, perTensor, tensor),
    named(e4m3, "per block of 128 by 128", { rows: 128, columns: 128 }),
    cast(e4m3),
    named(e5m2, perTensor, tensor),
    named(e5m2, perRow, row),
    cast(e5m2),
    named(int8, perRow, row),
    named(int8, perTensor, tensor),
    named(int8, perRow, row, range),
    named(int8, perTensor, tensor, range),
    named(int4, perRow, row),
    named(int4, perRow, row, range),
    named(int4, perTensor, tensor),
    ...groups,
    ...narrowScale.flatMap((scaleType) =>
      [32, 64, 128].flatMap((size) => [
        named(int4, perGroup(size), group(size), { scaleType }),
        named(int4, perGroup(size), group(size), { scaling: "range", scaleType }),
        named(int8, perGroup(size), group(size), { scaleType }),
      ]),
    ),
    named(int4, perGroup(32), group(32), { scaling: "signed", scaleType: "float16" }),
    named(int8, perGroup(32), group(32), { scaleType: "float16" }),
    named(nf4, perGroup(64), group(64)),
    named(nf4, perGroup(128), group(128)),
    named(fp4, perGroup(32), group(32), { scaleType: "power-of-two" }),
    named(e4m3, perGroup(32), group(32), { scaleType: "power-of-two" }),
    ...casts(store),
  ];
}

/** Of an operand [tokens, channels], as it is multiplied. */
export function activationQuantisations(store: "float16" | "bfloat16" | "float32"): NamedQuantisation[] {
  const tensor = { rows: all, columns: all };
  const token = { rows: 1, columns: all };
  return [
    named(e4m3, "per tensor", tensor),
    named(e4m3, "per token", token),
    named(e4m3, "per token and group of 128 channels", { rows: 1, columns: 128 }),
    cast(e4m3),
    named(e5m2, "per tensor", tensor),
    named(e5m2, "per token", token),
    cast(e5m2),
    named(int8, "per token", token),
    named(int8, "per tensor", tensor),
    named(int8, "per token", token, range),
    named(int8, "per tensor", tensor, range),
    named(int8, "per token and group of 32 channels", { rows: 1, columns: 32 }),
    named(int4, "per token", token),
    named(fp4, "per token and group of 32 channels", { rows: 1, columns: 32 }, { scaleType: "power-of-two" }),
    named(e4m3, "per token and group of 32 channels", { rows: 1, columns: 32 }, { scaleType: "power-of-two" }),
    ...casts(store),
  ];
}

/** Of keys or values [tokens, heads × head_dim]. */
export function cacheQuantisations(headDim: number, store: "float16" | "bfloat16" | "float32"): NamedQuantisation[] {
  const tensor = { rows: all, columns: all };
  const token = { rows: 1, columns: all };
  const tokenAndHead = { rows: 1, columns: headDim };
  const head = { rows: all, columns: headDim };
  const channel = { rows: all, columns: 1 };
  return [
    named(e4m3, "per tensor", tensor),
    cast(e4m3),
    named(e4m3, "per token", token),
    named(e4m3, "per token and head", tokenAndHead),
    named(e4m3, "per head", head),
    named(e5m2, "per tensor", tensor),
    cast(e5m2),
    named(e5m2, "per token and head", tokenAndHead),
    named(int8, "per tensor", tensor),
    named(int8, "per token", token),
    named(int8, "per token and head", tokenAndHead),
    named(int8, "per head", head),
    named(int8, "per channel", channel),
    named(int8, "per token and head", tokenAndHead, range),
    named(int4, "per token and head", tokenAndHead),
    named(int4, "per token and head", tokenAndHead, range),
    named(int4, "per channel", channel),
    ...casts(store),
  ];
}

/** Narrower float types than the run's own, without a scale. */
function casts(store: "float16" | "bfloat16" | "float32"): NamedQuantisation[] {
  if (store === "float32") return [cast(bfloat16), cast(float16)];
  return store === "float16" ? [cast(bfloat16)] : [];
}
