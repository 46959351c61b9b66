import Table from "cli-table3";
import { ranges } from "../diagnose/check/extent.js";
import type { Placement } from "../importers/names-file.js";
import type { Mapping } from "../names/map-names.js";
import { bareChars, type Colors, section } from "./text.js";
import { allVisible } from "./visible-text.js";

/** What a dump's tensors are, what is in doubt, and what is not checked for want of a tensor. */
export function namesText(mapping: Mapping, file: string, c: Colors): string {
  const { names, missing } = allVisible(mapping);
  const { values, unplaced = [] } = names;
  const parts = [
    section(c, `${values.length} values placed`, [tableOf(values.filter(({ unsure }) => !unsure))]),
    ...some("In doubt: correct the file, or take out `unsure`", tableOf(values.filter(({ unsure }) => unsure))),
    ...some("Not placed, and not read", unplacedLines(unplaced).join("\n")),
    ...some(
      "Without a tensor of their own: checked together with the next value that has one, or not at all behind the last",
      missing
        .map(({ role, layers }) => `  ${role}${layers.length > 0 ? ` (layers ${ranges(layers)})` : ""}`)
        .join("\n"),
    ),
  ];
  function some(title: string, text: string): string[] {
    return text === "" ? [] : [section(c, title, [text])];
  }
  return `${parts.join("\n")}\n  written to ${file}\n`;
}

/** A line for each kind of tensor: what repeats in every layer is told once. */
function tableOf(placements: readonly Placement[]): string {
  if (placements.length === 0) return "";
  const kinds = new Map<string, { placement: Placement; tensor: string; value: string; count: number }>();
  for (const placement of placements) {
    const [tensor, value] = [inEvery(placement.tensor), inEvery(placement.value)];
    const key = JSON.stringify([tensor, value, placement.columns, placement.role, placement.evidence]);
    const known = kinds.get(key);
    if (known) known.count++;
    else kinds.set(key, { placement, tensor, value, count: 1 });
  }
  const table = new Table({
    head: ["tensor", "columns", "is", "times", "found by"],
    style: { head: [], border: [], compact: true },
    chars: { ...bareChars, left: " " },
    colAligns: ["left", "left", "left", "right", "left"],
  });
  for (const { placement, tensor, value, count } of kinds.values()) {
    const { columns, index, role, evidence = "a person" } = placement;
    const part = columns
      ? `${columns[0]} to ${columns[0] + columns[1] - 1}`
      : index === undefined
        ? ""
        : `part ${index}`;
    const as = role === "input" ? " as it was read" : "";
    table.push([
      count > 1 ? tensor : placement.tensor,
      part,
      `${count > 1 ? value : placement.value}${as}`,
      count,
      evidence,
    ]);
  }
  return table.toString();
}

/** What is the same in several layers is told once. */
function unplacedLines(unplaced: NonNullable<Mapping["names"]["unplaced"]>): string[] {
  const lines = new Map<string, number>();
  for (const { tensor, shape = "", why } of unplaced) {
    const line = inEvery(`  ${tensor} ${shape}: ${why}`);
    lines.set(line, (lines.get(line) ?? 0) + 1);
  }
  return [...lines].map(([line, count]) => (count > 1 ? `${line} (${count} of them)` : line));
}

function inEvery(name: string): string {
  return name.replace(/(?<=\blayers\.)\d+/g, "*");
}
