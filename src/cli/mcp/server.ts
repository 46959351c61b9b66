import { McpServer, type ServerContext } from "@modelcontextprotocol/server";
import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import { leftOutSchema } from "./bounded.js";
import type { Told } from "./tool.js";
import type { ToolCaller } from "./tool-caller.js";
import { tools } from "./tools.js";

const usualLimit = 20_000;
const limitInput = z
  .int()
  .min(1000)
  .max(1_000_000)
  .optional()
  .describe(`most characters of the answer, default ${usualLimit}; what is left out is said in leftOut`);

const instructions =
  "Faultline judges a recorded run of a language model against what the model means, unit by unit, to the bit. Begin with `diagnose`; look at what it accuses with `unit`; write a test of it with `repro`. Only files that a call names are read, and only an `out` is written. `clean` does not exclude what `notVisible` lists, and an error without a cause (`cause: null`) is an error all the same.";

/** Notifications at most so often. */
const interval = 100;

/** A Model Context Protocol server with faultline's tools. */
export function faultlineServer(version: string, caller: ToolCaller): McpServer {
  const server = new McpServer({ name: "faultline", version }, { capabilities: { tools: {} }, instructions });
  for (const { name, title, description, input, output, writes } of tools) {
    server.registerTool(
      name,
      {
        title,
        description,
        inputSchema: input.extend({ limit: limitInput }),
        outputSchema: output.extend({ leftOut: leftOutSchema }),
        annotations: { readOnlyHint: !writes, destructiveHint: false, idempotentHint: !writes, openWorldHint: false },
      },
      async (words, context) => {
        try {
          const { limit = usualLimit, ...rest } = words as { readonly limit?: number };
          const called = { name, input: rest, limit };
          const answer = await caller.call(called, progressOf(context), context.mcpReq.signal);
          return { content: [{ type: "text", text: JSON.stringify(answer) }], structuredContent: answer };
        } catch (error) {
          if (!(error instanceof InputError)) throw error;
          return { content: [{ type: "text", text: error.message }], isError: true };
        }
      },
    );
  }
  return server;
}

/** Progress as notifications, where the caller wants them: stages that are done, and the share of the present one. */
function progressOf({ mcpReq }: ServerContext): Told {
  const token = mcpReq._meta?.progressToken;
  if (token === undefined) return () => {};
  let stages = -1;
  let current: string | undefined;
  let sent = -1;
  let when = 0;
  return (stage, done) => {
    const now = Date.now();
    if (stage !== current) stages++;
    else if (now - when < interval) return;
    current = stage;
    const progress = stages + Math.min(Math.max(done, 0), 1);
    if (progress <= sent) return;
    sent = progress;
    when = now;
    const message = done > 0 ? `${stage} ${Math.round(100 * done)}%` : stage;
    // A client that is gone needs no progress.
    mcpReq
      .notify({ method: "notifications/progress", params: { progressToken: token, progress, message } })
      .catch(() => {});
  };
}
