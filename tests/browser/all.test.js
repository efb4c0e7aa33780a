// All tests in one process, so that they share two browsers and one server; `node --test all.test.js` runs them.
import { after } from "node:test";
import { closeShared } from "./shared.js";

after(closeShared);

await import("./size.test.js");
await import("./engine.test.js");
await import("./files.test.js");
await import("./page.test.js");
await import("./offline.test.js");
await import("./portal.test.js");
