// A static server that logs every request, and serves the same folder in variants: each variant is a folder of its
// own under one origin, in which some text files are changed on the way out (an attribute set, a prelude put before
// the worker's script). Workers and service workers are served like everything else, which routing in the browser
// cannot do for them.
import { createServer } from "node:http";
import { createReadStream, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { extname, join, normalize, sep } from "node:path";

const MEDIA_TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".ts": "text/plain; charset=utf-8",
  ".png": "image/png",
  ".jpg": "image/jpeg",
};

/**
 * @param {string} root folder to serve
 * @param {Record<string, Record<string, (text: string) => string>>} variants name → file → change
 * @param {Record<string, string>} headers sent with every answer
 */
export async function serve(root, variants = {}, headers = {}) {
  const log = [];
  /** Large files by their path on the server, of which ranges are served. */
  const slides = {};
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://host").pathname);
    const [, variant, ...rest] = path.split("/");
    const changes = variants[variant];
    let file = changes ? rest.join("/") : path.slice(1);
    if (file === "" || file.endsWith("/")) file += "index.html";
    const entry = { path, file, method: request.method, at: Date.now(), status: 200 };
    log.push(entry);
    const full = normalize(join(root, file));
    try {
      if (slides[file]) return sendRange(request, response, slides[file], entry);
      if (!full.startsWith(normalize(root) + sep)) throw new Error("outside of the folder");
      let body = await readFile(full);
      const change = changes?.[file];
      if (change) body = Buffer.from(change(body.toString("utf8")));
      response.writeHead(200, {
        "content-type": MEDIA_TYPES[extname(file)] ?? "application/octet-stream",
        "content-length": body.length,
        "cache-control": "no-cache",
        ...headers,
      });
      response.end(request.method === "HEAD" ? undefined : body);
    } catch {
      entry.status = 404;
      response.writeHead(404, { "content-type": "text/plain" });
      response.end(`${path}: not found`);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return {
    origin,
    log,
    slides,
    url: (variant = "", path = "") => `${origin}/${variant ? `${variant}/` : ""}${path}`,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(resolve);
      }),
  };
}

/** Answers with a range of a file, as static hosts do; a request without a range is refused, so that none goes unnoticed. */
function sendRange(request, response, path, entry) {
  const { size } = statSync(path);
  const match = /^bytes=(\d+)-(\d+)?$/.exec(request.headers.range ?? "");
  if (!match) {
    entry.status = 400;
    response.writeHead(400).end("expected a range");
    return;
  }
  const start = Number(match[1]);
  const end = Math.min(match[2] === undefined ? size - 1 : Number(match[2]), size - 1);
  entry.status = 206;
  entry.bytes = end - start + 1;
  response.writeHead(206, {
    "content-type": "image/tiff",
    "content-length": entry.bytes,
    "content-range": `bytes ${start}-${end}/${size}`,
    "accept-ranges": "bytes",
    etag: '"slide"',
  });
  createReadStream(path, { start, end }).pipe(response);
}
