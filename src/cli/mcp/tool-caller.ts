import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { InputError } from "../../tensor/errors.js";
import type { Told } from "./tool.js";

/** A call as the process that answers it gets it. */
export interface Called {
  readonly name: string;
  readonly input: unknown;
  /** Most characters of the answer. */
  readonly limit: number;
}

/** What that process says. */
export type Reply =
  | { readonly stage: string; readonly done: number }
  | { readonly answer: Record<string, unknown> }
  | { readonly problem: string };

/** A process without work is ended after so long: it holds a run open. */
const idleMilliseconds = 300_000;

/** Calls tools one after the other in a process of its own, which a cancelled call takes with it. */
export class ToolCaller {
  #child: ChildProcess | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #idle: NodeJS.Timeout | undefined;

  /**
   * @throws InputError when the tool cannot answer, with the sentence it gives.
   * @throws the signal's reason when it is aborted.
   */
  call(called: Called, told: Told, signal: AbortSignal): Promise<Record<string, unknown>> {
    const answer = this.#last.then(() => {
      signal.throwIfAborted();
      return this.#run(called, told, signal);
    });
    this.#last = answer.catch(() => {});
    return answer;
  }

  /** Of the process that answers, while there is one. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#child?.kill("SIGKILL");
    this.#child = undefined;
  }

  #run(called: Called, told: Told, signal: AbortSignal): Promise<Record<string, unknown>> {
    clearTimeout(this.#idle);
    this.#child ??= fork(fileURLToPath(new URL("tool-process.js", import.meta.url)), {
      // Standard output belongs to the protocol.
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      execArgv: [],
    });
    const child = this.#child;
    return new Promise<Record<string, unknown>>((resolve, reject) => {
      const end = () => {
        child.off("message", hear);
        child.off("exit", ended);
        signal.removeEventListener("abort", abort);
        this.#idle = setTimeout(() => this.close(), idleMilliseconds).unref();
      };
      const hear = (reply: Reply) => {
        if ("stage" in reply) return told(reply.stage, reply.done);
        end();
        if ("answer" in reply) resolve(reply.answer);
        else reject(new InputError(reply.problem));
      };
      const ended = (code: number | null, by: string | null) => {
        end();
        this.#child = undefined;
        reject(
          new InputError(`${called.name}: its process ended with ${by ?? `status ${code}`}, as when memory runs out`),
        );
      };
      const abort = () => {
        end();
        this.close();
        reject(signal.reason);
      };
      child.on("message", hear);
      child.on("exit", ended);
      signal.addEventListener("abort", abort);
      child.send(called);
    });
  }
}
