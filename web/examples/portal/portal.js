// All that a portal writes: load the element, listen, and close it when it is not needed any more.
import "./node_modules/magnet-viewer/magnet-viewer.js";

const log = document.querySelector("#log");
const say = (text) => {
  const line = document.createElement("li");
  line.textContent = text;
  log.append(line);
};

for (const viewer of document.querySelectorAll("magnet-viewer")) {
  viewer.addEventListener("ready", () => say(`${viewer.id}: ready`));
  viewer.addEventListener("result", ({ detail }) => say(`${viewer.id}: ${detail.complete ? "complete" : "partial"} map`));
  viewer.addEventListener("error", ({ detail }) => say(`${viewer.id}: ${detail.message}`));
}

document.querySelector("#close").addEventListener("click", () => {
  const viewer = document.querySelector("#first");
  viewer.dispose();
  viewer.closest("section").remove();
  say("first: closed");
});
