// The list of pods: every row comes by one stream and stays current by it, and only the rows in sight are in the page.
// Search and sort happen here: thousands of rows are a few hundred kilobytes.
import { ago } from "./times.js";

const ROW_HEIGHT = 32;
const OVERSCAN = 12;
const RETRY_MS = 2000;
const LONGEST_RETRY_MS = 30_000;
const GRAVITY = { down: 0, degraded: 1, working: 2, unknown: 3, healthy: 4 };

class PodList {
  constructor(root) {
    this.root = root;
    this.view = root.querySelector(".view");
    this.table = root.querySelector("table");
    this.body = root.querySelector("tbody");
    this.note = root.querySelector("[data-note]");
    this.count = document.querySelector("[data-count]");
    this.search = document.getElementById("filter");
    this.states = new Map([...root.querySelector("template").content.children].map((node) => [node.dataset.state, node]));
    this.rows = new Map();
    this.shown = [];
    this.view.addEventListener("scroll", () => this.soon(), { passive: true });
    this.search.form.removeAttribute("data-auto");
    this.search.addEventListener("input", () => { this.address(); this.changed(); });
    this.search.form.addEventListener("submit", (event) => event.preventDefault());
    this.search.form.addEventListener("change", (event) => { if (event.target.matches("select")) this.search.form.submit(); });
    new ResizeObserver(() => this.soon()).observe(this.view);
    setInterval(() => this.soon(), 30_000);
    this.run();
  }

  address() {
    const url = new URL(location.href);
    if (this.search.value) url.searchParams.set("search", this.search.value);
    else url.searchParams.delete("search");
    history.replaceState(null, "", url);
  }

  async run() {
    for (let wait = RETRY_MS; ; wait = Math.min(2 * wait, LONGEST_RETRY_MS)) {
      try {
        await this.read();
        wait = RETRY_MS / 2;
      } catch (error) {
        this.say(`${error.message}; trying again…`);
        this.root.dataset.state = "lost";
      }
      await new Promise((resolve) => setTimeout(resolve, Math.max(wait, RETRY_MS)));
    }
  }

  async read() {
    const answer = await fetch(this.root.dataset.url, { headers: { Accept: "application/x-ndjson" } });
    if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error?.message ?? `the server answered ${answer.status}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const fresh = new Map();
    let held = "", synced = false;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (held + value).split("\n");
      held = lines.pop();
      for (const line of lines) {
        const told = JSON.parse(line);
        if (told.error && !told.again) throw new Error(told.error);
        for (const row of told.rows ?? []) fresh.set(`${row.namespace}/${row.name}`, row);
        if (told.put) this.rows.set(`${told.put.namespace}/${told.put.name}`, told.put);
        if (told.gone) this.rows.delete(told.gone);
        if (told.synced) { synced = true; this.rows = fresh; this.say(""); this.root.dataset.state = "live"; }
      }
      if (!synced && !this.rows.size) this.rows = new Map(fresh);
      this.later();
    }
  }

  later() {
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => { this.waiting = false; this.changed(); }, 100);
  }

  changed() {
    const wanted = this.search.value.trim().toLowerCase();
    const fits = (row) => !wanted || `${row.namespace}/${row.name} ${row.status} ${row.node}`.toLowerCase().includes(wanted);
    this.shown = [...this.rows.values()].filter(fits).sort((a, b) =>
      GRAVITY[a.tone] - GRAVITY[b.tone] || a.namespace.localeCompare(b.namespace) || a.name.localeCompare(b.name));
    const unwell = this.shown.filter((row) => GRAVITY[row.tone] < 2).length;
    this.count.textContent = `${this.shown.length} of ${this.rows.size} pods${unwell ? `, ${unwell} unwell` : ""}`;
    const none = this.root.querySelector("[data-none]");
    if (none) none.hidden = this.rows.size > 0;
    this.soon();
  }

  soon() {
    if (this.drawing || !this.rows.size && !this.root.dataset.state) return;
    this.drawing = true;
    requestAnimationFrame(() => { this.drawing = false; this.draw(); });
  }

  draw() {
    const first = Math.max(0, Math.floor(this.view.scrollTop / ROW_HEIGHT) - OVERSCAN);
    const last = Math.min(this.shown.length, first + Math.ceil(this.view.clientHeight / ROW_HEIGHT) + 2 * OVERSCAN);
    const focused = document.activeElement?.closest?.("tr")?.dataset.key;
    const rows = this.shown.slice(first, last).map((row, index) => this.row(row, first + index));
    const columns = [...this.table.tHead.rows[0].cells].filter((head) => head.offsetParent).length;
    this.body.replaceChildren(space(first, columns), ...rows, space(this.shown.length - last, columns));
    this.table.setAttribute("aria-rowcount", String(this.shown.length + 1));
    this.root.dataset.rows = String(this.shown.length);
    if (focused) [...this.body.children].find((node) => node.dataset.key === focused)?.querySelector("a")?.focus({ preventScroll: true });
  }

  row(row, index) {
    const line = document.createElement("tr");
    line.dataset.key = `${row.namespace}/${row.name}`;
    line.setAttribute("aria-rowindex", String(index + 2));
    const link = cell(line, "").appendChild(document.createElement("a"));
    link.className = "name";
    link.href = `/clusters/${this.root.dataset.cluster}/kubernetes/${row.namespace}/pods/${row.name}`;
    link.textContent = row.name;
    link.title = row.name;
    cell(line, "hide-narrow mono small", row.namespace);
    const state = this.states.get(row.tone).cloneNode(true);
    state.lastElementChild.textContent = row.status;
    cell(line, "").append(state);
    cell(line, "num", row.ready);
    cell(line, "num hide-narrow", row.restarts);
    cell(line, "hide-narrow mono small", row.node);
    const made = cell(line, "num hide-narrow").appendChild(document.createElement("time"));
    made.dateTime = row.created_at;
    made.title = row.created_at;
    made.textContent = row.created_at ? ago(new Date(row.created_at)) : "";
    return line;
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }
}

function cell(line, name, text = "") {
  const made = line.appendChild(document.createElement("td"));
  made.className = name;
  made.textContent = text;
  return made;
}

function space(count, columns) {
  const line = document.createElement("tr");
  line.setAttribute("aria-hidden", "true");
  line.className = "space";
  const filler = line.appendChild(document.createElement("td"));
  filler.colSpan = columns;
  filler.style.height = `${count * ROW_HEIGHT}px`;
  return line;
}

for (const root of document.querySelectorAll(".rows[data-url]")) root.list = new PodList(root);
