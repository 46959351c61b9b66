import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { beforeAll, describe, expect, it } from "vitest";
import { program } from "../src/cli/program.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const documents = [
  "README.md",
  "CONTRIBUTING.md",
  ...documentsIn("docs"),
  ...documentsIn("examples"),
  ...documentsIn("python"),
];
const scripts = JSON.parse(readFileSync(`${root}package.json`, "utf8")).scripts as Record<string, string>;

function documentsIn(folder: string): string[] {
  return readdirSync(`${root}${folder}`, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".md") && !path.includes("node_modules") && !path.includes(".venv"))
    .map((path) => `${folder}/${path}`);
}

interface Written {
  readonly text: string;
  /** In a block that can be run as it stands, not in a sentence. */
  readonly isWhole: boolean;
}

const start =
  /(?:^|[;&|]|\bdo|\brun:|\$)\s*(?:(?:npx )?faultline|node dist\/cli\/main\.js) ([a-z](?:[^;&|>#]|(?<=\w)>)*)/g;

/** What documents tell people to type, from `faultline` to the end of the command. */
function commandsIn(path: string): Written[] {
  const text = readFileSync(`${root}${path}`, "utf8");
  const blocks = [...text.matchAll(/^```(?:bash|sh|console|yaml)?\n([\s\S]*?)^```/gm)].map((block) => block[1]!);
  const lines = blocks.flatMap((block) => block.replace(/\\\n\s*/g, " ").split("\n"));
  const whole = lines.flatMap((line) =>
    // The program at the start of a command, and not its name in what a command prints. `<family>` is no redirection.
    [...line.matchAll(start)].map((found) => `faultline ${found[1]!.trim()}`),
  );
  const prose = text.replace(/^```[\s\S]*?^```/gm, "");
  const spans = [...prose.matchAll(/`((?:npx )?faultline [a-z][^`]*)`/g)].map((found) =>
    found[1]!.replace(/^npx /, ""),
  );
  return [
    ...whole.map((command) => ({ text: command, isWhole: !command.includes("…") })),
    // A table's cell escapes its bars.
    ...spans.map((command) => ({ text: command.replaceAll("\\|", "|"), isWhole: false })),
  ];
}

function wordsOf(command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, a, b, c]) => a ?? b ?? c!).slice(1);
}

/** The command that words name, and the words after its name. */
function commandOf(words: readonly string[]): { command: Command; rest: readonly string[] } {
  let command: Command = program;
  let at = 0;
  while (at < words.length) {
    const next = command.commands.find((each) => each.name() === words[at]);
    if (!next) break;
    command = next;
    at++;
  }
  return { command, rest: words.slice(at) };
}

const everyCommand = (command: Command): Command[] => [command, ...command.commands.flatMap(everyCommand)];
beforeAll(() => {
  // Commands are read, not run.
  for (const command of everyCommand(program)) {
    command.exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} });
    if (command.commands.length === 0) command.action(() => {});
  }
});

describe.each(documents)("%s", (path) => {
  const written = commandsIn(path);

  it("has no command or option that is not there", async () => {
    for (const { text, isWhole } of written) {
      const { command, rest } = commandOf(wordsOf(text));
      // `faultline bench` names a group.
      expect(command, `${text}: no such command`).not.toBe(program);
      const known = ["--help", "-h", ...command.options.flatMap(({ long, short }) => [long, short])];
      const options = rest.join(" ").match(/(?<![\w-])--?[a-z][\w-]*/g) ?? [];
      for (const option of options)
        expect(known, `${text}: ${command.name()} has no option ${option}`).toContain(option);
      if (isWhole && command.commands.length === 0)
        await expect(program.parseAsync(wordsOf(text), { from: "user" }), text).resolves.toBe(program);
    }
  });

  it("names files of this repository and scripts of npm that are there", () => {
    const text = readFileSync(`${root}${path}`, "utf8");
    for (const [, script] of text.matchAll(/\bnpm run ([\w:-]+)/g))
      expect(scripts, `npm run ${script}`).toHaveProperty(script!);
    const places = written.flatMap(({ text }) => wordsOf(text).filter((word) => /^(?:cases|models|test)\//.test(word)));
    const run = [...text.matchAll(/\b(?:node|python3?) (scripts\/[\w./-]+)/g)].map((found) => found[1]!);
    for (const place of [...places, ...run]) expect(existsSync(`${root}${place}`), `${path}: ${place}`).toBe(true);
  });
});

it("finds the commands that are written", () => {
  const names = documents.flatMap(commandsIn).map(({ text }) => commandOf(wordsOf(text)).command.name());
  const all = everyCommand(program).filter(({ commands }) => commands.length === 0);
  expect(all.map((command) => command.name()).filter((name) => !names.includes(name))).toEqual([]);
  expect(documents.flatMap(commandsIn).filter(({ isWhole }) => isWhole).length).toBeGreaterThan(25);
});
