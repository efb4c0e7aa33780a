// The page as a user meets it: by roles and names.
import { readFile } from "node:fs/promises";

export class Viewer {
  /** `scope` is the page, or the element of one viewer where there are several. */
  constructor(page, scope = page) {
    this.page = page;
    this.scope = scope;
  }

  get device() {
    return this.scope.getByRole("status", { name: "Device in use" });
  }
  get result() {
    return this.scope.getByRole("status", { name: "Result" });
  }
  get alert() {
    return this.scope.getByRole("alert");
  }
  get maps() {
    return this.scope.getByRole("application", { name: /^Predicted map of / });
  }
  get map() {
    return this.maps.first();
  }
  get progress() {
    return this.scope.getByRole("progressbar", { name: "Prediction progress" });
  }
  button(name) {
    return this.scope.getByRole("button", { name, exact: true });
  }

  /** Waits until the engine runs and the model is open. */
  async ready(timeout = 60_000) {
    await this.device.filter({ hasText: /GPU|CPU/ }).waitFor({ timeout });
    await this.scope.getByLabel("About the model", { exact: true }).getByText("SHA-256").waitFor({ state: "attached", timeout });
    return (await this.device.textContent()).trim();
  }

  async choose(id) {
    await this.scope.getByLabel("Model", { exact: true }).selectOption(id);
  }

  async open(file, umPerPx) {
    await this.scope.getByLabel("Image file").setInputFiles(file);
    if (umPerPx === undefined) return;
    const size = this.scope.getByLabel("Micrometres per pixel");
    await size.waitFor();
    await size.fill(String(umPerPx));
    await this.button("Use this size").click();
  }

  /** Waits for the end of a run and returns what the page says of it. */
  async finished(timeout = 120_000) {
    await this.result.filter({ hasText: /complete|partial/i }).waitFor({ timeout });
    return (await this.result.textContent()).trim();
  }

  async level(name) {
    await this.scope.getByRole("radio", { name, exact: true }).check({ force: true });
  }

  /** Makes a file and returns its name and bytes. */
  async export(name) {
    const [download] = await Promise.all([this.page.waitForEvent("download", { timeout: 60_000 }), this.button(name).click()]);
    return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
  }

  async table() {
    const { bytes } = await this.export("CSV");
    return parseCsv(bytes.toString("utf8"));
  }
}

/** A table of predictions: names of rows, genes, and one array of values per gene. */
export function parseCsv(text) {
  const [head, ...lines] = text.trim().split(/\r?\n/).map((line) => line.split(","));
  const [, , , , , ...genes] = head;
  return {
    names: lines.map((line) => line[0]),
    places: lines.map((line) => [Number(line[1]), Number(line[2])]),
    genes,
    values: genes.map((_, gene) => Float64Array.from(lines, (line) => (line[gene + 5] === "" ? NaN : Number(line[gene + 5])))),
  };
}

/** The rows of a table that have these names. */
export function rowsOf(table, names) {
  const rows = names.map((name) => table.names.indexOf(name));
  return { ...table, names, values: table.values.map((values) => Float64Array.from(rows, (row) => values[row])) };
}

/** How far two tables are from each other: largest relative difference, and the lowest Pearson over the genes. */
export function compare(found, expected) {
  if (found.genes.join() !== expected.genes.join()) throw new Error(`genes differ: ${found.genes} and ${expected.genes}`);
  if (found.names.join() !== expected.names.join()) throw new Error(`rows differ: ${found.names.length} and ${expected.names.length}`);
  let relative = 0;
  let pearson = 1;
  for (const [gene, values] of found.values.entries()) {
    const others = expected.values[gene];
    const scale = others.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const [row, value] of values.entries()) {
      const difference = Math.abs(value - others[row]) / Math.max(Math.abs(others[row]), 0.01 * scale);
      relative = Math.max(relative, difference); // NaN where one is missing, and it stays
    }
    pearson = Math.min(pearson, pearsonOf(values, others));
  }
  return { relative, pearson };
}

/** Pearson of two tables, gene by gene, the middle one of them. */
export function medianPearson(found, expected) {
  const each = found.values.map((values, gene) => pearsonOf(values, expected.values[gene])).sort((a, b) => a - b);
  return each[each.length >> 1];
}

function pearsonOf(a, b) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [product, squareA, squareB] = [0, 0, 0];
  for (const [index, value] of a.entries()) {
    product += (value - meanA) * (b[index] - meanB);
    squareA += (value - meanA) ** 2;
    squareB += (b[index] - meanB) ** 2;
  }
  return product / Math.sqrt(squareA * squareB);
}
