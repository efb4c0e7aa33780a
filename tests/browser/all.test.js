// All tests in one process, so that they share two browsers and one server; `npm test` runs them.
import { after } from "node:test";
import { closeShared } from "./shared.js";
import "./size.test.js";
import "./engine.test.js";
import "./files.test.js";
import "./element.test.js";
import "./page.test.js";
import "./slide.test.js";
import "./offline.test.js";
import "./portal.test.js";
import "../bench/browser/pieces.test.js";

after(closeShared);
