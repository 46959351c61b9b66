import { readAsOther } from "../bits.js";
import { choose, type Fault, type FaultContext, fault, layerPath } from "../fault.js";
import { gathered, meant } from "../rewrite.js";

/** Products that read what a norm returns. */
const readers: Readonly<Record<string, readonly string[]>> = {
  q_proj: ["self_attn.q_proj"],
  v_proj: ["self_attn.v_proj"],
  gate_proj: ["mlp.gate_proj"],
  up_proj: ["mlp.up_proj"],
  attention: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
  mlp: ["mlp.gate_proj", "mlp.up_proj"],
};
const chosenReaders = ({ values }: FaultContext, layer: number) =>
  readers[String(values.readers)]!.map((name) => `${layerPath(layer).path}.${name}`);

export const layoutFaults: readonly Fault[] = [
  fault({
    id: "I67-heads-permuted",
    title: "attention heads in another order before o_proj",
    kind: "seam",
    transform: "T1",
    // Channels before heads is a wrong stride, another order of heads a permutation.
    expected: ["heads-permuted", "heads-interleaved", "strides-ignored"],
    hiddenWhen: "one head",
    applies: (config) => config.headCount > 1,
    parameters: (random) => ({ order: choose(random, ["reversed", "rotated", "transposed"]) }),
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj`],
    inject({ graph, config, values }, layer) {
      const { attn } = layerPath(layer);
      const { headCount, headDim } = config;
      const from = (column: number) => {
        const [head, channel] = [Math.floor(column / headDim), column % headDim];
        if (values.order === "transposed") {
          // [heads, channels] read as [channels, heads]
          return (column % headCount) * headDim + Math.floor(column / headCount);
        }
        const other = values.order === "reversed" ? headCount - 1 - head : (head + 1) % headCount;
        return other * headDim + channel;
      };
      const permuted = {
        ...meant(graph, `${attn}.o_proj.input`),
        op: gathered((_, column) => ({ column: from(column) })),
        inputs: [`${attn}.o_proj.input`],
      };
      return { nodes: [permuted, { ...graph.node(`${attn}.o_proj`), inputs: [permuted.name] }] };
    },
  }),
  fault({
    id: "I42-activation-bits",
    title: "16-bit normed input read as the other 16-bit type by the MLP",
    kind: "seam",
    transform: "T8",
    expected: ["dtype-bits"],
    applies: (_, store) => store === "bfloat16" || store === "float16",
    parameters: (random) => ({ projection: choose(random, ["gate_proj", "up_proj"]) }),
    firstBad: ({ values }, layer) => [`${layerPath(layer).mlp}.${values.projection}`],
    inject({ graph, store, values }, layer) {
      const source = `${layerPath(layer).path}.post_attention_layernorm`;
      const misread = {
        ...meant(graph, source),
        name: `${source} as other bits`,
        op: readAsOther(store as "bfloat16" | "float16"),
        inputs: [source],
      };
      return {
        nodes: [misread, { ...graph.node(`${layerPath(layer).mlp}.${values.projection}`), inputs: [misread.name] }],
      };
    },
  }),
  fault({
    id: "C14-input-not-normed",
    title: "a projection, or all of a branch, reads the stream instead of the normed one",
    kind: "seam",
    transform: "T12",
    expected: ["operand-unnormed", "norm-missing", "operand-swapped"],
    parameters: (random) => ({ readers: choose(random, Object.keys(readers)) }),
    firstBad: (context, layer) => chosenReaders(context, layer),
    inject(context, layer) {
      const { graph } = context;
      return {
        nodes: chosenReaders(context, layer).map((name) => {
          const normed = graph.node(name).inputs[0]!;
          return { ...graph.node(name), inputs: [graph.node(normed).inputs[0]!] };
        }),
      };
    },
  }),
  fault({
    id: "T20-record-overwritten",
    title: "recorded buffer overwritten after use: the record is wrong, the run is not",
    kind: "observer",
    transform: "T20",
    expected: ["record-overwritten"],
    parameters: (random) => ({ value: choose(random, ["input_layernorm", "self_attn.o_proj"]) }),
    firstBad: ({ values }, layer) => [`${layerPath(layer).path}.${values.value}`],
    inject({ values }, layer) {
      const { path } = layerPath(layer);
      const later = values.value === "input_layernorm" ? "post_attention_layernorm" : "mlp.down_proj";
      return { overwritten: new Map([[`${path}.${values.value}`, `${path}.${later}`]]) };
    },
  }),
];
