// Live requests of a route: told by server-sent events as they end, the newest first, bounded, paused when somebody reads.
const MOST_KEPT = 1000;
const MOST_SHOWN = 300;
const RETRY_MS = 3000;

class Requests {
  constructor(root) {
    this.root = root;
    this.body = root.querySelector("tbody");
    this.empty = root.querySelector("[data-empty]");
    this.bar = document.querySelector(".only-script");
    this.note = this.bar.querySelector("[data-note]");
    this.find = document.getElementById("find");
    this.failed = document.getElementById("failed");
    this.pauseButton = document.getElementById("pause");
    this.kept = [];
    this.held = [];
    this.known = new Set();
    this.dropped = 0;
    this.paused = false;
    this.bar.hidden = false;
    this.find.addEventListener("input", () => this.draw());
    this.failed.addEventListener("change", () => this.draw());
    this.pauseButton.addEventListener("click", () => this.pause(!this.paused));
    document.getElementById("clear").addEventListener("click", () => { this.kept = []; this.held = []; this.draw(); });
    this.open();
    window.addEventListener("pagehide", () => this.source.close());
  }

  open() {
    this.source = new EventSource(this.root.dataset.url);
    this.source.onopen = () => { this.isOpen = true; this.say(); };
    this.source.onerror = () => {
      this.isOpen = false;
      this.say();
      if (this.source.readyState === EventSource.CLOSED) setTimeout(() => this.open(), RETRY_MS);
    };
    this.source.addEventListener("request", ({ data }) => this.take(JSON.parse(data)));
    this.source.addEventListener("dropped", ({ data }) => { this.dropped += JSON.parse(data).count; this.say(); });
    this.source.addEventListener("end", ({ data }) => {
      this.source.close();
      this.isOpen = false;
      this.ended = JSON.parse(data)?.error?.message ?? "the server ended it";
      this.say();
    });
  }

  // A connection that is taken up again tells the last lines once more.
  take(line) {
    if (this.known.has(line.request_id)) return;
    this.known.add(line.request_id);
    if (this.known.size > 4 * MOST_KEPT) this.known = new Set([...this.known].slice(-2 * MOST_KEPT));
    const into = this.paused ? this.held : this.kept;
    into.unshift(line);
    into.length = Math.min(into.length, MOST_KEPT);
    this.soon();
  }

  soon() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => { this.drawing = false; if (this.paused) this.say(); else this.draw(); });
  }

  pause(paused) {
    this.paused = paused;
    this.pauseButton.setAttribute("aria-pressed", String(paused));
    this.pauseButton.textContent = paused ? "Go on" : "Pause";
    if (!paused) {
      this.kept = [...this.held, ...this.kept].slice(0, MOST_KEPT);
      this.held = [];
    }
    this.draw();
  }

  matches(line, wanted) {
    if (this.failed.checked && line.status && line.status < 400) return false;
    return !wanted || `${line.method} ${line.host}${line.path} ${line.address} ${line.status}`.toLowerCase().includes(wanted);
  }

  draw() {
    const wanted = this.find.value.trim().toLowerCase();
    this.shown = this.kept.filter((line) => this.matches(line, wanted));
    this.body.replaceChildren(...this.shown.slice(0, MOST_SHOWN).map(row));
    this.empty.hidden = this.kept.length + this.held.length > 0;
    this.say();
  }

  say() {
    if (this.ended) { this.note.textContent = `Ended: ${this.ended}`; return; }
    if (!this.isOpen) { this.note.textContent = "Connecting…"; return; }
    const count = this.shown?.length ?? 0;
    const parts = [this.paused ? `Paused, ${this.held.length} new` : "Live"];
    if (count !== this.kept.length) parts.push(`${count} of ${this.kept.length}`);
    if (count > MOST_SHOWN) parts.push(`the newest ${MOST_SHOWN} shown`);
    if (this.dropped) parts.push(`${this.dropped} came too fast to be shown`);
    this.note.textContent = parts.join(" · ");
  }
}

function row(line) {
  const node = document.createElement("tr");
  node.dataset.id = line.request_id;
  const add = (text, cls) => {
    const cell = node.appendChild(document.createElement("td"));
    cell.className = cls;
    cell.textContent = text;
    return cell;
  };
  const at = new Date(line.at);
  const time = add("", "mono small").appendChild(document.createElement("time"));
  time.dateTime = line.at;
  time.title = at.toLocaleString();
  time.textContent = at.toLocaleTimeString([], { hour12: false });
  add(line.status || "cut", "mono").dataset.class = String(Math.floor(line.status / 100));
  add(line.method, "mono small hide-narrow");
  add(line.path, "mono small").title = `${line.host}${line.path}${line.outcome && line.outcome !== "done" ? ` (${line.outcome})` : ""}`;
  add(line.address, "mono small hide-narrow");
  add(duration(line.seconds), "num");
  add(size(line.sent_bytes), "num hide-narrow");
  return node;
}

function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 120 ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s` : `${Math.round(seconds / 60)} min`;
}

function size(bytes) {
  let amount = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (amount < 1024) return `${unit === "B" || amount >= 10 ? Math.round(amount) : amount.toFixed(1)} ${unit}`;
    amount /= 1024;
  }
  return `${amount.toFixed(1)} TiB`;
}

const root = document.getElementById("requests");
if (root) new Requests(root);
