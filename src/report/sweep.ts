import Table from "cli-table3";
import pc from "picocolors";
import type { LayerEffect, Share, ValueEffect } from "../lab/live/effect.js";
import type { SettingEffect } from "../lab/live/sweep.js";

/** Turns token ids into text. */
export type Wording = (tokenIds: readonly number[]) => string;

/** What sweeps show as a table, a row per setting and one for the engine as it runs without. */
export class SweepTable {
  readonly #rows: string[][] = [];
  readonly #lines: string[] = [];

  constructor(
    readonly wording: Wording,
    readonly colors: boolean,
  ) {}

  add(effect: SettingEffect): void {
    const c = pc.createColors(this.colors);
    const { setting, first, values, elements, nonFinite, tokenIds, sameText } = effect;
    if (this.#rows.length === 0)
      this.#rows.push(["nothing", "", "", String(nonFinite.without), "", this.#text(tokenIds.without)]);
    const text = this.#text(tokenIds.with);
    this.#rows.push([
      setting,
      first ? first.value : values.changed > 0 ? "none beyond rounding" : "none",
      `${values.changed} of ${values.of}`,
      String(nonFinite.with),
      percent(elements),
      sameText ? `${text} (the same)` : c.yellow(text),
    ]);
    this.#lines.push(...detailLines(effect));
  }

  toString(): string {
    const table = new Table({
      head: ["set", "first value changed", "values changed", "non-finite", "elements changed", "the text goes on with"],
      style: { head: [], border: [] },
      wordWrap: true,
      colWidths: [28, 40, 16, 12, 18, 34],
    });
    table.push(...this.#rows);
    return `${table.toString()}\n${this.#lines.join("\n")}\n`;
  }

  #text(tokenIds: readonly number[]): string {
    return JSON.stringify(this.wording(tokenIds));
  }
}

function detailLines({ setting, first, layers, logits }: SettingEffect): string[] {
  if (!first) return [];
  const lines = [setting, `  ${first.value}: ${change(first)}`];
  const stream = runs(layers);
  lines.push(`  stream, largest |x| after layer: ${stream}`);
  if (logits) lines.push(`  logits: ${change(logits)}`);
  return lines;
}

function change({ largest, nonFinite, ...share }: ValueEffect): string {
  if (share.changed === 0) return `unchanged, largest |x| ${short(largest.without)}`;
  const lost = nonFinite.with > 0 ? `, ${nonFinite.with} not finite` : "";
  return `${percent(share)} of ${share.of} elements, largest |x| ${short(largest.without)} → ${short(largest.with)}${lost}`;
}

/** Layers in order; neighbours that show the same are one entry. */
function runs(layers: readonly LayerEffect[]): string {
  const shown = layers.map(({ largest, nonFinite }) => {
    const [before, after] = [side(largest.without, nonFinite.without), side(largest.with, nonFinite.with)];
    return before === after ? before : `${before} → ${after}`;
  });
  const parts: string[] = [];
  for (let i = 0; i < shown.length; ) {
    let end = i;
    while (shown[end + 1] === shown[i]) end++;
    const at =
      layers[i]!.layer === layers[end]!.layer ? `${layers[i]!.layer}` : `${layers[i]!.layer}-${layers[end]!.layer}`;
    parts.push(`${at}: ${shown[i]}`);
    i = end + 1;
  }
  return parts.join(", ");
}

function side(largest: number, nonFinite: number): string {
  return nonFinite > 0 ? `${short(largest)} and ${nonFinite} not finite` : short(largest);
}

function short(value: number): string {
  return value === 0 ? "0" : String(Number(value.toPrecision(2)));
}

function percent({ changed, of }: Share): string {
  if (changed === 0) return "0 %";
  const share = (100 * changed) / of;
  return share < 0.1 ? "under 0.1 %" : `${share.toFixed(1)} %`;
}
