import { allFusions, type Fusions } from "../../engine/program/fusions.js";
import type { Patch, PatchableModel, Rewrite } from "../../engine/program/patch.js";
import type { Graph, GraphNode } from "../../spec/graph.js";
import type { ModelConfig } from "../../spec/models/config.js";
import { decoderGraph } from "../../spec/models/decoder.js";
import { InputError } from "../../tensor/errors.js";
import { type LiveFault, liveFaults } from "./faults.js";
import { computing, type Knob, knobs } from "./knobs.js";
import { layersOf } from "./layers.js";
import { scaled } from "./patches.js";
import { type Change, type Setting, settingOf } from "./setting.js";

/** Settings that one `--set` may ask for, and all of them. */
const mostSettings = 1000;

/**
 * What one `--set` asks for: `PATTERN=VALUE,VALUE,…`, or several of these with `;` between them, which are set together,
 * every value of one with every value of the others.
 * @param faults those of the running path.
 * @throws InputError when the text cannot be read, a pattern matches nothing, or a value is none of the pattern's.
 */
export function parseSettings(text: string, config: ModelConfig, faults: readonly LiveFault[]): Setting[] {
  const graph = decoderGraph(config);
  let combined: readonly (readonly Change[])[] = [[]];
  for (const clause of text.split(";")) {
    const at = clause.indexOf("=");
    const pattern = clause.slice(0, at).trim();
    const values = clause.slice(at + 1).split(",");
    if (at < 1 || values.some((value) => value.trim() === ""))
      throw new InputError(`--set "${shown(clause)}": expected PATTERN=VALUE,VALUE,… such as layers.*.k_scale=1,0.1`);
    const changes = values.map((value) => changeOf(pattern, value.trim(), { config, graph, faults }));
    combined = combined.flatMap((before) => changes.map((change) => [...before, change]));
    if (combined.length > mostSettings)
      throw new InputError(`--set "${shown(text)}": expected at most ${mostSettings} settings`);
  }
  return combined.map((changes) => settingOf(changes, faults));
}

interface Target {
  readonly config: ModelConfig;
  readonly graph: Graph;
  readonly faults: readonly LiveFault[];
}

function changeOf(pattern: string, value: string, target: Target): Change {
  const title = `${pattern}=${value}`;
  const fusion = /^fusions\.(.+)$/.exec(pattern)?.[1];
  if (fusion !== undefined) return withoutFusions(title, fusion, value);
  const fault = /^faults\.(.+)$/.exec(pattern)?.[1];
  if (fault !== undefined) return withFaults(title, fault, value, target.faults);
  const [, layers, name = ""] = /^layers\.([^.]+)(?:\.([a-z_]+))?$/.exec(pattern) ?? [];
  const knob = layers === undefined ? undefined : knobs.find((known) => known.name === name);
  if (layers !== undefined && knob) return turned(title, knob, layersOf(target.config, layers), value);
  return ofValues(title, pattern, value, target);
}

function turned(title: string, knob: Knob, layers: readonly number[], text: string): Change {
  const value = knob.takes === "factor" ? factorOf(title, text) : text;
  if (value !== "off" && value !== "reference" && typeof value !== "number")
    throw new InputError(`--set "${shown(title)}": expected ${knob.takes}`);
  if (value === "reference" && knob.takes === "off") throw new InputError(`--set "${shown(title)}": expected off`);
  const patch = (wanted: typeof value, as = title): Patch => ({
    title: as,
    rewrite: (model) => knob.rewrite(model, layers, wanted),
  });
  return added(title, patch(value), typeof value === "number" ? patch(1, unchangedTitle(title)) : undefined);
}

/** `NAME.scale=FACTOR` or `NAME=reference` of any values of the spec, `*` for a part of a name. */
function ofValues(title: string, pattern: string, value: string, { graph }: Target): Change {
  const factors = pattern.endsWith(".scale");
  const name = factors ? pattern.slice(0, -".scale".length) : pattern;
  const names = matching(graph, name).map((node) => node.name);
  if (names.length === 0)
    throw new InputError(
      `--set "${shown(title)}": expected a pattern that something matches, found none; faultline sweep --help lists what can be set`,
    );
  if (factors) {
    const patch = (factor: number, as = title): Patch => ({
      title: as,
      rewrite: (model) => scaled(model, names, factor),
    });
    return added(title, patch(factorOf(title, value)), patch(1, unchangedTitle(title)));
  }
  if (value !== "reference")
    throw new InputError(`--set "${shown(title)}": expected reference, or ${name}.scale=FACTOR`);
  return added(title, { title, rewrite: (model) => onHost(model, names) });
}

function onHost({ graph }: PatchableModel, names: readonly string[]): Rewrite {
  return {
    onHost: computing(
      names.map((name) => graph.node(name)),
      graph,
    ),
  };
}

/** Values that an op computes, by their names or by what follows on `model.`; appends and choices are none. */
function matching(graph: Graph, pattern: string): GraphNode[] {
  const parts = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const expression = new RegExp(`^(?:model\\.)?${parts.join("[^.]*")}$`);
  const nodes = [...graph.nodes.values()].filter(({ name }) => expression.test(name));
  const able = new Set(computing(nodes, graph));
  return nodes.filter(({ name }) => able.has(name));
}

function withoutFusions(title: string, name: string, value: string): Change {
  const all = Object.keys(allFusions) as (keyof Fusions)[];
  const without = all.filter((fusion) => name === "*" || fusion === name);
  if (without.length === 0)
    throw new InputError(`--set "${shown(title)}": expected one of the fusions ${all.join(", ")}, or *`);
  if (value !== "off") throw new InputError(`--set "${shown(title)}": expected off`);
  return added(title, { title, rewrite: () => ({ without }) });
}

/** Faults taken out of the running path, or put into it. */
function withFaults(title: string, name: string, value: string, running: readonly LiveFault[]): Change {
  if (value === "on") {
    const more = liveFaults(name).filter((fault) => !running.some((known) => known.name === fault.name));
    if (more.length === 0)
      throw new InputError(`--set "${shown(title)}": expected a fault that is not in the path yet`);
    const apply = (patches: readonly Patch[]) => [...more, ...patches];
    return { title, apply, neutral: (patches) => patches };
  }
  if (value !== "off") throw new InputError(`--set "${shown(title)}": expected on or off`);
  const out = running.filter((fault) => name === "*" || name === "exclamation-mark" || fault.name === name);
  if (out.length === 0) {
    const there = running.map((fault) => fault.name).join(", ") || "none; --fault puts some in";
    throw new InputError(`--set "${shown(title)}": expected a fault that is in the path, which are ${there}`);
  }
  const apply = (patches: readonly Patch[]) => patches.filter((patch) => !out.some((fault) => fault === patch));
  return { title, apply, neutral: (patches) => patches };
}

function added(title: string, patch: Patch, neutral?: Patch): Change {
  return {
    title,
    apply: (patches) => [...patches, patch],
    neutral: (patches) => (neutral ? [...patches, neutral] : patches),
  };
}

/** The same with the factor that changes nothing. */
function unchangedTitle(title: string): string {
  return `${title.slice(0, title.lastIndexOf("="))}=1`;
}

/** A factor that float32 holds. */
function factorOf(title: string, text: string): number {
  const value = Number(text);
  if (text === "" || !Number.isFinite(Math.fround(value)))
    throw new InputError(`--set "${shown(title)}": expected a number that float32 holds, found "${shown(text)}"`);
  return value;
}

/** What a user typed, as far as a sentence can hold it. */
function shown(text: string): string {
  return JSON.stringify(text.trim().slice(0, 60)).slice(1, -1);
}
