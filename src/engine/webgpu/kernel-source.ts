const sources = new Map<string, Promise<string>>();

/** Text of `kernels/<name>.wgsl`: from disk in Node, by fetch in a browser. */
export function kernelSource(name: string): Promise<string> {
  let source = sources.get(name);
  if (!source) {
    source = load(new URL(`./kernels/${name}.wgsl`, import.meta.url));
    sources.set(name, source);
  }
  return source;
}

async function load(address: URL): Promise<string> {
  if (address.protocol === "file:") {
    const { readFile } = await import("node:fs/promises");
    return readFile(address, "utf8");
  }
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: ${response.status} ${response.statusText}`);
  return response.text();
}
