import { Command, InvalidArgumentError } from "commander";
import { diagnose } from "../diagnose/diagnose.js";
import { JudgedView } from "../report/view/judged-view.js";
import { serveView } from "../report/view/view-server.js";
import { detokenizer } from "./detokenizer.js";
import { namesFor } from "./names-of.js";
import { version } from "./reports.js";

interface Options {
  readonly model: string;
  readonly reference?: string[];
  readonly quick?: boolean;
  readonly names?: string;
  readonly port: number;
}

/** `faultline view RUN --model DIR`. */
export function viewCommand(): Command {
  return new Command("view")
    .summary("the verdict in a browser, with any element on demand")
    .description(
      "Diagnoses RUN and serves the page that diagnose --report out.html writes, from this machine to this machine alone: with the elements of any unit in any step, and those of a second run beside them (docs/report.md).",
    )
    .argument("<run...>", "the suspect run; of several ranks each one's directory")
    .requiredOption("-m, --model <dir>", "model folder: config.json and model.safetensors (or its shards)")
    .option("-r, --reference <path...>", "a run of the same text, to be seen beside it")
    .option("-n, --names <file>", "what the tensors of someone else's dump are (see faultline names)")
    .option("-q, --quick", "leave out the run from the tokens")
    .option("-p, --port <number>", "the port to serve on (default: any that is free)", portNumber, 0)
    .addHelpText(
      "after",
      `
Exit codes: 0 when it is ended (Ctrl+C), 2 bad input.

Example:
  faultline view cases/exclamation-mark/capture.safetensors --model models/ishmael-7m`,
    )
    .action(view);
}

async function view(target: string[], { model, reference, quick = false, names: file, port }: Options): Promise<void> {
  const names = namesFor(target, model, file);
  const run = { target, model, quick, names, ...(reference && { reference }) };
  const command = ["faultline", "diagnose", ...target, "--model", model];
  if (reference) command.push("--reference", ...reference);
  if (file !== undefined) command.push("--names", file);
  if (quick) command.push("--quick");
  const detokenize = detokenizer(model);
  let progress = { stage: "opening the recording", done: 0 };
  let judged: JudgedView | undefined;
  const server = await serveView(
    {
      progress: () => progress,
      page: () => judged?.page,
      elements: (unit, step) => judged!.elements(unit, step),
    },
    port,
  );
  process.stdout.write(`${server.address}\n(Ctrl+C ends)\n`);
  const ended = new Promise<void>((resolve) => {
    // Before there is anything to show, it is the work itself that is to end.
    for (const signal of ["SIGINT", "SIGTERM"] as const)
      process.once(signal, () => (judged ? resolve() : process.exit(130)));
  });
  try {
    await diagnose({
      ...run,
      detokenize,
      progress: (stage, done) => {
        progress = { stage, done };
      },
      whileOpen: async (open) => {
        judged = new JudgedView(open, { run, command, version: version() }, detokenize);
        await ended;
      },
    });
  } finally {
    await server.close();
  }
}

function portNumber(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) throw new InvalidArgumentError("expected a number from 0 to 65535");
  return port;
}
