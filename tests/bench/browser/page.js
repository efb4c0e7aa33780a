// Workers by name, for the program that drives this page.
const workers = new Map();

function ask(worker, message) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.failed ? reject(new Error(data.failed)) : resolve(data));
    worker.onerror = (event) => reject(new Error(event.message || "a worker could not be loaded"));
    worker.postMessage(message);
  });
}

globalThis.bench = {
  /** Opens an encoder in a worker of its own. */
  async open(name, script, options) {
    const worker = new Worker(new URL(`./${script}`, import.meta.url), { type: "module", name });
    workers.set(name, worker);
    await ask(worker, options);
  },
  /** Milliseconds of a call, the mean of `calls` in a row. */
  async time(name, calls) {
    return (await ask(workers.get(name), calls)).ms;
  },
  /** What a call returns. */
  async features(name) {
    return Array.from((await ask(workers.get(name), 1)).features);
  },
  /** Milliseconds since the page was opened. */
  age: () => performance.now(),
  close(name) {
    workers.get(name)?.terminate();
    workers.delete(name);
  },
};
