import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { InputError } from "../../tensor/errors.js";
import { contentPolicy, pageAssets, pageDocument } from "../html/document.js";
import type { PageData, UnitElements } from "../html/page-data.js";
import { inertJson } from "../visible-text.js";

/** What is shown: work in progress, then a judged run. */
export interface Viewed {
  /** What is being done, and how much of it is, 0 to 1. */
  progress(): { readonly stage: string; readonly done: number };
  /** undefined until it is judged. */
  page(): PageData | undefined;
  elements(unit: string, step?: number): UnitElements | string;
}

/** A server of one page, on this machine alone. */
export interface ViewServer {
  /** Where the page is: the address has a secret in it. */
  readonly address: string;
  close(): Promise<void>;
}

const host = "127.0.0.1";

/**
 * Serves a page on the loopback interface. Who does not know the random token in its path is told nothing, a request that
 * names another host or comes from another site's page is refused, and no other page may read an answer.
 * @param port 0 for any that is free.
 * @throws InputError when the port is taken.
 */
export async function serveView(viewed: Viewed, port = 0): Promise<ViewServer> {
  const token = randomBytes(24).toString("base64url");
  const server = createServer((request, response) => {
    const { port: own } = server.address() as AddressInfo;
    const answer = answerTo(viewed, request, token, `${host}:${own}`);
    send(response, answer, request.method === "HEAD");
  });
  await listening(server, port);
  const { port: own } = server.address() as AddressInfo;
  return {
    address: `http://${host}:${own}/${token}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

const refused: Answer = { status: 403, type: "text/plain", body: "refused\n" };
const unknown: Answer = { status: 404, type: "text/plain", body: "not found\n" };

function answerTo(viewed: Viewed, request: IncomingMessage, token: string, own: string): Answer {
  const { method, headers, url = "" } = request;
  if (headers.host !== own) return refused;
  if (headers["sec-fetch-site"] === "cross-site" || headers["sec-fetch-site"] === "same-site") return refused;
  if (method !== "GET" && method !== "HEAD") return { ...refused, status: 405 };
  const found = /^\/([\w-]{1,64})\/([a-z]*)(?:\?(.{0,2000}))?$/.exec(url);
  if (!found || !isToken(found[1]!, token)) return unknown;
  const query = new URLSearchParams(found[3] ?? "");
  switch (found[2]) {
    case "":
      return { status: 200, type: "text/html", body: pageDocument({ waiting: true }, pageAssets(), "'self'") };
    case "state":
      return json({ ...viewed.progress(), ready: viewed.page() !== undefined });
    case "report":
      return viewed.page() ? json(viewed.page()) : unknown;
    case "unit":
      return viewed.page() ? unit(viewed, query) : unknown;
    default:
      return unknown;
  }
}

function unit(viewed: Viewed, query: URLSearchParams): Answer {
  const step = query.get("step");
  if (step !== null && !/^\d{1,6}$/.test(step)) return { ...unknown, status: 400, body: "step: expected a number\n" };
  const found = viewed.elements(query.get("unit") ?? "", step === null ? undefined : Number(step));
  return json(typeof found === "string" ? { why: found } : { elements: found });
}

function json(value: unknown): Answer {
  return { status: 200, type: "application/json", body: inertJson(value) };
}

function isToken(given: string, token: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(token)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function send(response: ServerResponse, { status, type, body }: Answer, headOnly: boolean): void {
  response.writeHead(status, {
    "content-type": `${type}; charset=utf-8`,
    "content-length": Buffer.byteLength(body),
    "content-security-policy": `${contentPolicy(pageAssets(), "'self'")}; frame-ancestors 'none'`,
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
  });
  response.end(headOnly ? undefined : body);
}

function listening(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", ({ message }) => reject(new InputError(`--port: ${port}: expected a free port (${message})`)));
    server.listen(port, host, resolve);
  });
}
