import Table from "cli-table3";
import pc from "picocolors";
import type { LayerEffect, Share, ValueEffect } from "../lab/live/effect.js";
import type { SettingEffect } from "../lab/live/sweep.js";
import { bareChars, wrap } from "./text.js";
import { quoted, visible } from "./visible-text.js";

/** Turns token ids into text. */
export type Wording = (tokenIds: readonly number[]) => string;

/** What sweeps show: a row per setting and one for the engine as it runs without, then what changed where. */
export class SweepTable {
  readonly #rows: string[][] = [];
  readonly #lines: string[] = [];

  constructor(
    readonly wording: Wording,
    readonly colors: boolean,
  ) {}

  add(effect: SettingEffect): void {
    const c = pc.createColors(this.colors);
    const { setting, first, values, elements, nonFinite, tokenIds, sameText, layers } = effect;
    if (this.#rows.length === 0) {
      this.#rows.push(["nothing", "", "", "", String(nonFinite.without), this.#text(tokenIds.without)]);
      this.#lines.push("nothing", ...wrapped(streamWords(layers)));
    }
    const none = values.changed > 0 ? "none beyond rounding" : "none";
    const text = this.#text(tokenIds.with);
    this.#rows.push([
      visible(setting),
      first ? first.value.replace(/^model\./, "") : none,
      `${values.changed} of ${values.of}`,
      percent(elements),
      String(nonFinite.with),
      sameText ? `${text}, the same` : c.yellow(text),
    ]);
    if (first) this.#lines.push(...detailLines(effect, first));
  }

  toString(): string {
    const table = new Table({
      head: ["set", "changes first", "values", "elements", "not finite", "goes on with"],
      chars: bareChars,
      style: { head: [], border: [], "padding-left": 0, "padding-right": 1 },
    });
    table.push(...this.#rows);
    return `${table.toString()}\n\n${this.#lines.join("\n")}\n`;
  }

  #text(tokenIds: readonly number[]): string {
    return quoted(this.wording(tokenIds));
  }
}

function detailLines({ setting, layers, logits }: SettingEffect, first: ValueEffect): string[] {
  const changed = layers
    .map((layer) => ({ layer: layer.layer, before: sideOf(layer, "without"), after: sideOf(layer, "with") }))
    .filter(({ before, after }) => before !== after)
    .map(({ layer, before, after }) => ({ layer, shown: `${before} → ${after}` }));
  const stream =
    changed.length > 0
      ? `stream, largest |x| behind layer ${runs(changed)}`
      : "stream as large as without, to these digits";
  return [
    visible(setting),
    ...wrapped(`${first.value}: ${change(first)}`),
    ...wrapped(stream),
    ...(logits ? wrapped(`logits: ${change(logits)}`) : []),
  ];
}

/** The largest elements of the residual stream behind every layer, as the engine runs without the change. */
export function streamWords(layers: readonly LayerEffect[]): string {
  const largest = layers.map((layer) => ({ layer: layer.layer, shown: sideOf(layer, "without") }));
  return `stream, largest |x| behind layer ${runs(largest)}`;
}

function wrapped(text: string): string[] {
  return [wrap(text, 110, "  ")];
}

function change({ largest, nonFinite, ...share }: ValueEffect): string {
  if (share.changed === 0) return `unchanged, largest |x| ${short(largest.without)}`;
  const lost = nonFinite.with > 0 ? `, ${nonFinite.with} not finite` : "";
  return `${percent(share)} of ${share.of} elements, largest |x| ${short(largest.without)} → ${short(largest.with)}${lost}`;
}

/** Layers in order; neighbours that show the same are one entry. */
function runs(layers: readonly { readonly layer: number; readonly shown: string }[]): string {
  const parts: string[] = [];
  for (let i = 0; i < layers.length; ) {
    let end = i;
    while (layers[end + 1]?.shown === layers[i]!.shown && layers[end + 1]!.layer === layers[end]!.layer + 1) end++;
    const [from, to] = [layers[i]!.layer, layers[end]!.layer];
    parts.push(`${from === to ? from : `${from}-${to}`}: ${layers[i]!.shown}`);
    i = end + 1;
  }
  return parts.join(", ");
}

function sideOf({ largest, nonFinite }: LayerEffect, side: "without" | "with"): string {
  return nonFinite[side] > 0 ? `${short(largest[side])} and ${nonFinite[side]} not finite` : short(largest[side]);
}

function short(value: number): string {
  return value === 0 ? "0" : String(Number(value.toPrecision(2)));
}

function percent({ changed, of }: Share): string {
  if (changed === 0) return "0 %";
  const share = (100 * changed) / of;
  return share < 0.1 ? "under 0.1 %" : `${share.toFixed(1)} %`;
}
