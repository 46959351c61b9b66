import { Command } from "commander";

/** `faultline mcp`: the tools for agents and editors, over standard input and output. */
export function mcpCommand(version: string): Command {
  return new Command("mcp")
    .summary("serve diagnose, unit, compare, names, repro and sweep to agents and editors")
    .description(
      "A Model Context Protocol server on standard input and output. It reads the files that calls name, writes only into an `out` that a call names, and opens no connection (docs/agents.md).",
    )
    .addHelpText(
      "after",
      `
Ends with its standard input. In a client's configuration:
  { "mcpServers": { "faultline": { "command": "npx", "args": ["faultline", "mcp"] } } }`,
    )
    .action(async () => {
      // Loaded here alone: no other command needs it.
      const [{ serveStdio }, { faultlineServer }, { ToolCaller }] = await Promise.all([
        import("@modelcontextprotocol/server/stdio"),
        import("./mcp/server.js"),
        import("./mcp/tool-caller.js"),
      ]);
      const caller = new ToolCaller();
      const handle = serveStdio(() => faultlineServer(version, caller));
      await new Promise((resolve) => process.stdin.once("close", resolve).once("end", resolve));
      caller.close();
      await handle.close();
    });
}
