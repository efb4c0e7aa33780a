// The most memory that a browser's processes have held, from Linux's account of them.
import { readFileSync, readdirSync } from "node:fs";

/** Processes that hold a page, its workers and what WebGPU computes with; the others are the browser's own. */
const KIND = /--type=(renderer|gpu-process)(?=[\0 ])/;

/** Bytes: the sum, over the renderers and the GPU process below this program, of the most that each has held. */
export function peakMemory() {
  const processes = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0);
      const counts = KIND.test(readFileSync(`/proc/${pid}/cmdline`, "utf8"));
      processes.set(Number(pid), { parent: field("PPid"), peak: 1024 * field("VmHWM"), counts });
    } catch {
      // It has ended meanwhile.
    }
  }
  const isBelow = (pid) => pid === process.pid || (processes.has(pid) && isBelow(processes.get(pid).parent));
  let sum = 0;
  for (const [pid, { peak, counts }] of processes) if (counts && isBelow(pid)) sum += peak;
  if (sum === 0) throw new Error("no process of a browser is seen in /proc");
  return sum;
}
