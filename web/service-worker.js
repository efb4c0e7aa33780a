// Keeps the page usable offline: its files are stored at the first visit and served from there afterwards. Models are
// stored by the page itself. Only files of this page are ever answered; every other request passes untouched.
//
// A new version is stored whole beside the old one, each file checked against its hash, and takes over once no tab
// shows the old one: a tab never mixes files of two versions.

// Sealed at build time (scripts/web-seal): path → hash in the form of the integrity attribute.
const [VERSION, FILES] = ["unsealed", {}];

const PREFIX = "magnet-page-";
const CACHE = PREFIX + VERSION;
const ROOT = new URL("./", self.location.href);
const PAGE = "index.html"; // asked for as the folder itself, which hosts do not redirect

const urlOf = (path) => (path === PAGE ? ROOT : new URL(path, ROOT));

async function store() {
  const cache = await caches.open(CACHE);
  await Promise.all(
    Object.entries(FILES).map(async ([path, integrity]) => {
      const url = urlOf(path);
      const response = await fetch(new Request(url, { cache: "no-cache", integrity }));
      if (!response.ok) throw new Error(`${path}: expected a file, found status ${response.status}`);
      await cache.put(url, response);
    }),
  );
}

async function forgetOtherVersions() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
}

/** The page's file that a request means, or undefined. */
function pathOf(request) {
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== ROOT.origin || !url.pathname.startsWith(ROOT.pathname)) return undefined;
  const path = url.pathname.slice(ROOT.pathname.length) || PAGE;
  return Object.hasOwn(FILES, path) ? path : undefined;
}

async function answer(request, path) {
  const cache = await caches.open(CACHE);
  return (await cache.match(urlOf(path))) ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(store()));
self.addEventListener("activate", (event) => event.waitUntil(forgetOtherVersions()));
self.addEventListener("fetch", (event) => {
  const path = pathOf(event.request);
  if (path !== undefined) event.respondWith(answer(event.request, path));
});
