import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { InputError } from "../../tensor/errors.js";
import { reportMark } from "../report-format.js";
import { inertJson } from "../visible-text.js";

/** The page's script and style as they were built (scripts/copy-assets.mjs). */
export interface PageAssets {
  readonly script: string;
  readonly style: string;
}

let known: PageAssets | undefined;

/** @throws InputError when the package was not built. */
export function pageAssets(): PageAssets {
  known ??= { script: asset("page.js"), style: asset("page.css") };
  return known;
}

/** Beside this file where it is built, else in dist/: sources are run from tests. */
function asset(name: string): string {
  const places = [`./${name}`, `../../../dist/report/html/${name}`].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  );
  const found = places.find((path) => existsSync(path));
  if (!found) throw new InputError(`${places[0]}: expected the page's ${name}, found none: npm run build makes it`);
  return readFileSync(found, "utf8");
}

/**
 * A whole page: one file, nothing from elsewhere. A policy inside lets only this script and this style through, by their
 * hashes; the data are a block of JSON that no browser interprets, in which no tag can end.
 * @param data JSON of `PageData`, or of where a server gives it.
 * @param connect what the script may fetch from: nothing, or its own server.
 */
export function pageDocument(
  data: unknown,
  { script, style } = pageAssets(),
  connect: "'none'" | "'self'" = "'none'",
): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<!-- ${reportMark} -->
<meta http-equiv="Content-Security-Policy" content="${contentPolicy({ script, style }, connect)}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>faultline</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
<main id="page"><noscript>This report draws its data with its own script, which is switched off here. faultline diagnose prints the same as text.</noscript></main>
<script type="application/json" id="data">${inertJson(data)}</script>
<script>${script}</script>
</body>
</html>
`;
}

/** What the page may load and run. */
export function contentPolicy({ script, style }: PageAssets, connect: "'none'" | "'self'"): string {
  return [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "img-src data:",
    `connect-src ${connect}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}

function hash(text: string): string {
  return `'sha256-${createHash("sha256").update(text, "utf8").digest("base64")}'`;
}
