import { type CauseId, catalogue } from "../diagnose/causes/catalogue.js";
import { type Transform, transforms } from "../diagnose/causes/transforms.js";
import { catalogue as faults } from "../lab/catalogue.js";

const introduction = `# Causes

What \`faultline diagnose\` can name. Printed from \`src/diagnose/causes\` by \`scripts/print-causes.mjs\`: change it there.
A cause is of a **kind** (kernel, seam, metadata, parameter, state, environment, observer: [verdict.md](verdict.md)) and of a
**transform**, what it makes of a right result. A rewrite says of itself where it is of another kind than its cause usually is. How to
add one: [add-a-cause.md](add-a-cause.md).`;

/** `docs/causes.md`: the transforms, and every cause under its own. */
export function causesPage(): string {
  const ids = Object.keys(catalogue) as CauseId[];
  const sections = (Object.keys(transforms) as Transform[]).map((transform) => {
    const own = ids.filter((id) => catalogue[id].transform === transform);
    return own.length > 0 ? [`## ${transform}: ${transforms[transform].title}`, ...own.map(entry)] : [];
  });
  return `${[introduction, transformTable(), ...sections.flat()].join("\n\n")}\n`;
}

function transformTable(): string {
  const rows = Object.entries(transforms).map(([id, { title, meaning }]) => `| ${id} | ${title} | ${meaning} |`);
  return ["| | transform | what becomes of the right result |", "|---|---|---|", ...rows].join("\n");
}

function entry(id: CauseId): string {
  const inLab = faults.filter(({ expected }) => expected.includes(id)).map((fault) => fault.id);
  return [
    `### \`${id}\``,
    "",
    causeEntryText(id),
    ...(inLab.length > 0 ? [`* In the lab: ${inLab.join(", ")}.`] : []),
  ].join("\n");
}

/** What is known of a cause, in Markdown. */
export function causeEntryText(id: CauseId): string {
  const { kind, legend, hiddenBy, confusedWith = [], report } = catalogue[id];
  return [
    `${legend} (${kind})`,
    "",
    `* Hidden by: ${hiddenBy}.`,
    ...(confusedWith.length > 0 ? [`* Confused with: ${confusedWith.map((other) => `\`${other}\``).join(", ")}.`] : []),
    ...(report ? [`* In public: [${report[0]}](${address(report[0])}): ${report[1]}.`] : []),
  ].join("\n");
}

function address(thread: string): string {
  const [repository, number] = thread.split("#");
  return `https://github.com/${repository}/issues/${number}`;
}
