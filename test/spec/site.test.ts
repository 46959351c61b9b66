import { describe, expect, it } from "vitest";
import type { Graph } from "../../src/spec/graph.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { decoderGraph } from "../../src/spec/models/decoder.js";
import { roleOf } from "../../src/spec/site.js";

const { config } = readModelConfig("models/ishmael-7m");
const graph = decoderGraph(config);
const keyOf = ({ site }: { site: object }) => JSON.stringify({ ...site, name: undefined, role: undefined });
const nameAt = (of: Graph, wanted: Parameters<Graph["at"]>[0]) => of.at(wanted)?.name;

describe("sites", () => {
  it("are one to one with the values of a decoder", () => {
    const nodes = [...graph.nodes.values()];
    expect(new Set(nodes.map(keyOf)).size).toBe(nodes.length);
    for (const node of nodes) expect(graph.at(node.site)).toBe(node);
  });

  it("have one role in all layers", () => {
    for (const node of graph.nodes.values()) {
      if (node.layer === undefined) continue;
      for (let layer = 0; layer < config.layerCount; layer++) {
        const other = graph.inLayer(node, layer)!;
        expect(other.layer).toBe(layer);
        expect(roleOf(other)).toBe(roleOf(node));
      }
    }
    expect(roleOf(graph.node("model.layers.1.mlp.gate_proj"))).toBe("model.layers.*.mlp.gate_proj");
  });

  it("find a layer's stream, and what is made of it", () => {
    expect(graph.streamBefore(0).name).toBe("model.embed_tokens");
    expect(graph.streamBefore(1).name).toBe("model.layers.0");
    expect(graph.streamAfter(config.layerCount)).toBeUndefined();
    expect(() => graph.streamBefore(config.layerCount + 1)).toThrow(/layer/);
    expect(nameAt(graph, { what: "norm", block: "mlp", layer: 2 })).toBe("model.layers.2.post_attention_layernorm");
    expect(nameAt(graph, { what: "key-rotated", layer: 2 })).toBe("model.layers.2.self_attn.k_rope");
    expect(graph.all("stream", "mlp").map(({ name }) => name)).toHaveLength(config.layerCount);
  });

  it("stay where they are in a rewritten graph, and values that a rewrite makes have roles of their own", () => {
    const node = graph.node("model.layers.1.self_attn.q_proj");
    const twice = { ...node, name: `${node.name}.once more`, inputs: [node.name] };
    const rewritten = graph.with([twice, { ...graph.node("model.layers.1.self_attn.q_rope"), inputs: [twice.name] }]);
    expect(nameAt(rewritten, { what: "query", layer: 1 })).toBe(node.name);
    expect(rewritten.at({ what: "query-rotated", layer: 1 })!.inputs).toEqual([twice.name]);
    expect(roleOf(twice)).toBe("model.layers.*.self_attn.q_proj.once more");
    expect(rewritten.all("query")).toHaveLength(config.layerCount);
  });
});
