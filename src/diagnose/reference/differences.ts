import type { Investigation } from "../check/investigation.js";

/** In what two runs are not alike although both may be right, one clause each: target / reference. */
export function differences(target: Investigation, reference: Investigation): string[] {
  const facts = [
    ["stored in", ({ precision }: Investigation) => precision.store],
    ["computed in", ({ precision }: Investigation) => precision.compute],
    ["steps", ({ capture }: Investigation) => String(capture.steps.length)],
    ["sequences", ({ observations }: Investigation) => String(new Set(observations.rows.seqId).size)],
    ["padding", ({ capture }: Investigation) => (capture.paddings ? "padded" : "none")],
    [
      "RoPE counts",
      ({ observations }: Investigation) => (observations.rows.rotary === "columns" ? "columns" : "tokens"),
    ],
    ["ranks", ({ capture }: Investigation) => String(capture.ranks?.world ?? 1)],
    ["KV cache", cacheType],
    ["recorded by", ({ capture }: Investigation) => capture.manifest.runtime?.name ?? "unknown"],
    ["on", ({ capture }: Investigation) => capture.manifest.runtime?.device ?? "unknown"],
  ] as const;
  return facts.flatMap(([what, read]) => {
    const [ours, theirs] = [read(target), read(reference)];
    return ours === theirs ? [] : [`${what} ${ours} / ${theirs}`];
  });
}

function cacheType({ graph, observations }: Investigation): string {
  const keys = graph.at({ what: "key-cache", layer: 0 });
  return (keys && observations.cacheFormat(keys.name)?.dtype) ?? "not recorded";
}
