// The log view: only the lines in sight are in the page, follow pauses when scrolled up, search marks what it finds.
// A broken connection is taken up again with cursors, so that no line is lost or doubled.
import { ansiNodes, plain } from "./ansi.js";
import { EVENT, FrameReader, SOURCE, STDERR, STDOUT } from "./frames.js";

const LINE_HEIGHT = 20;
const MOST_LINES = 100_000;
const OVERSCAN = 20;
const RETRY_MS = 1500;
const LEVEL = /\b(?:(ERROR|FATAL|CRITICAL|PANIC|emerg|alert|crit|error)|WARN(?:ING)?|warn(?:ing)?)\b(?=[\]: ,"]|$)/;

class LogView {
  constructor(root) {
    this.root = root;
    this.view = root.querySelector(".view");
    this.note = root.querySelector("[data-note]");
    this.jump = root.querySelector(".jump");
    this.lines = [];
    this.shown = [];
    this.dropped = 0;
    this.hidden = new Set();
    this.services = new Map();
    this.cursors = new Map();
    this.told = new Map();
    this.query = "";
    this.following = true;
    this.space = this.view.appendChild(document.createElement("div"));
    this.box = this.space.appendChild(document.createElement("div"));
    this.space.style.position = "relative";
    this.box.style.position = "absolute";
    this.box.style.insetInline = "0";
    this.view.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.jump.addEventListener("click", () => { this.following = true; this.draw(); });
    this.controls();
    this.stopped = false;
    this.run();
  }

  controls() {
    const on = (name, event, action) => this.root.querySelector(name)?.addEventListener(event, action);
    on("[data-search]", "input", (e) => { this.query = e.target.value; this.filter(); this.found(); });
    on("[data-only]", "change", (e) => { this.only = e.target.checked; this.filter(); });
    on("[data-times]", "click", (e) => this.toggle(e.currentTarget, "times"));
    on("[data-wrap]", "click", (e) => this.toggle(e.currentTarget, "wrap"));
    on("[data-download]", "click", () => this.download());
  }

  found() {
    const wanted = this.query.toLowerCase();
    const count = wanted ? this.shown.filter((line) => plain(line.text).toLowerCase().includes(wanted)).length : 0;
    this.root.querySelector("[data-found]").textContent = wanted ? `${count} ${count === 1 ? "line" : "lines"}` : "";
  }

  toggle(button, name) {
    button.setAttribute("aria-pressed", String(this.root.classList.toggle(name)));
    this.draw();
  }

  async run() {
    while (!this.stopped) {
      try {
        await this.read();
        if (this.root.dataset.follow !== "1") { this.say("End of the log"); return; }
        this.say("The log ended; looking again…");
      } catch (error) {
        this.say(`${error.message}; trying again…`);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  async read() {
    const url = new URL(this.root.dataset.url, location.href);
    for (const [container, cursor] of this.cursors) url.searchParams.append("cursor", `${container}=${cursor}`);
    const answer = await fetch(url, { headers: { Accept: "application/vnd.towline.logs" } });
    if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error?.message ?? `the server answered ${answer.status}`);
    this.say("");
    const frames = new FrameReader();
    const sources = new Map();
    const decoder = new TextDecoder();
    const reader = answer.body.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      for (const frame of frames.feed(value)) this.frame(frame, sources, decoder);
      this.filterNew();
    }
  }

  frame({ kind, source, body }, sources, decoder) {
    const text = decoder.decode(body);
    if (kind === SOURCE) {
      const entry = JSON.parse(text);
      sources.set(source, entry);
      this.service(entry.service || entry.name);
    } else if (kind === STDOUT || kind === STDERR) {
      const entry = sources.get(source);
      if (entry) this.block(entry, kind === STDERR ? "stderr" : "stdout", text);
    } else if (kind === EVENT) {
      this.event(sources.get(source)?.name ?? "", JSON.parse(text).text);
    }
  }

  // What is told again because the log was asked for again stands there once.
  event(who, text) {
    if (this.told.get(who) === text) return;
    this.told.set(who, text);
    this.add({ at: "", who, stream: "event", text: `— ${text}` });
  }

  block(entry, stream, text) {
    const who = entry.service || entry.name;
    this.told.delete(entry.name);
    let last = "", count = 0;
    for (const line of text.split("\n")) {
      if (!line) continue;
      const space = line.indexOf(" ");
      const at = line.slice(0, space);
      count = at === last ? count + 1 : 1;
      last = at;
      this.add({ at, who, stream, text: line.slice(space + 1) });
    }
    if (!last) return;
    const [heldAt, held] = (this.cursors.get(entry.container) ?? "/0").split("/");
    this.cursors.set(entry.container, `${last}/${heldAt === last ? Number(held) + count : count}`);
  }

  add(line) {
    this.lines.push(line);
  }

  service(name) {
    if (this.services.has(name)) return;
    this.services.set(name, this.services.size % 6);
    const button = document.createElement("button");
    button.type = "button";
    button.className = `plain who${this.services.get(name)}`;
    button.textContent = name;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const hide = !this.hidden.has(name);
      this.hidden[hide ? "add" : "delete"](name);
      button.setAttribute("aria-pressed", String(!hide));
      this.filter();
    });
    this.root.querySelector("[data-services]")?.append(button);
  }

  matches(line) {
    if (this.hidden.has(line.who)) return false;
    return !(this.only && this.query) || plain(line.text).toLowerCase().includes(this.query.toLowerCase());
  }

  filter() {
    this.shown = this.lines.filter((line) => this.matches(line));
    this.seen = this.lines.length;
    this.draw();
  }

  filterNew() {
    for (const line of this.lines.slice(this.seen ?? 0)) if (this.matches(line)) this.shown.push(line);
    if (this.lines.length > MOST_LINES) this.lines.splice(0, this.lines.length - MOST_LINES);
    if (this.shown.length > MOST_LINES) {
      const cut = this.shown.length - MOST_LINES;
      this.shown.splice(0, cut);
      this.view.scrollTop = Math.max(0, this.view.scrollTop - cut * LINE_HEIGHT);
    }
    this.seen = this.lines.length;
    this.soon();
  }

  soon() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => { this.drawing = false; this.draw(); });
  }

  scrolled() {
    const bottom = this.view.scrollHeight - this.view.clientHeight - this.view.scrollTop;
    this.following = bottom < LINE_HEIGHT * 2;
    if (this.root.classList.contains("wrap")) this.jump.hidden = this.following;
    else this.soon();
  }

  draw() {
    this.jump.hidden = this.following;
    const wrap = this.root.classList.contains("wrap");
    const height = this.view.clientHeight;
    this.space.style.height = wrap ? "auto" : `${this.shown.length * LINE_HEIGHT}px`;
    this.box.style.position = wrap ? "static" : "absolute";
    if (this.following && !wrap) this.view.scrollTop = this.shown.length * LINE_HEIGHT;
    const first = wrap ? Math.max(0, this.shown.length - 2000) : Math.max(0, Math.floor(this.view.scrollTop / LINE_HEIGHT) - OVERSCAN);
    const last = wrap ? this.shown.length : Math.min(this.shown.length, first + Math.ceil(height / LINE_HEIGHT) + 2 * OVERSCAN);
    this.box.style.top = wrap ? "" : `${first * LINE_HEIGHT}px`;
    this.box.replaceChildren(...this.shown.slice(first, last).map((line) => this.row(line)));
    if (this.following && wrap) this.view.scrollTop = this.view.scrollHeight;
    this.root.dataset.lines = String(this.shown.length);
  }

  row(line) {
    const row = document.createElement("div");
    row.className = "line";
    row.dataset.stream = line.stream;
    const level = LEVEL.exec(line.text);
    if (level) row.dataset.level = level[1] ? "error" : "warning";
    const time = row.appendChild(document.createElement("time"));
    time.textContent = line.at ? line.at.slice(11, 23) : "";
    const who = row.appendChild(document.createElement("span"));
    who.className = `who who${this.services.get(line.who) ?? 0}`;
    who.textContent = line.who;
    const text = row.appendChild(document.createElement("span"));
    text.className = "text";
    text.append(...ansiNodes(line.text, this.query));
    return row;
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  download() {
    const text = this.shown.map((line) => `${line.at} ${line.who} | ${plain(line.text)}\n`).join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = `${this.root.dataset.name || "logs"}.log`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}

for (const root of document.querySelectorAll(".logs[data-url]")) root.log = new LogView(root);
