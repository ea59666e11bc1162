// Plays a recorded session: asciicast v2 into xterm.js. Nothing is asked of the server before somebody presses Play,
// because playing goes into the audit log. What was recorded is only ever written to the terminal, which nobody reads.
const STEP = 5, FRAME_SECONDS = 0.05, LONGEST_PAUSE = 2, CHUNK = 65536;
const SMALLEST_FONT = 7, LARGEST_FONT = 14, GLYPH = 0.61;

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

class Player {
  constructor(root) {
    this.root = root;
    this.box = root.querySelector("[data-screen]");
    for (const name of ["play", "seek", "speed", "skip", "time", "note", "marks"]) this[name] = root.querySelector(`[data-${name}]`);
    this.size = { columns: Number(root.dataset.columns), rows: Number(root.dataset.rows) };
    this.term = new window.Terminal({ cols: this.size.columns, rows: this.size.rows, fontFamily: "ui-monospace, Menlo, Consolas, monospace", fontSize: this.font(), scrollback: 5000, disableStdin: true, cursorBlink: false, convertEol: root.dataset.tty !== "true", theme: { background: "#0d1014" } });
    this.term.open(this.box);
    this.events = null;
    this.at = 0; // seconds on the player's own clock, which skips pauses when told to
    this.next = 0;
    this.play.addEventListener("click", () => this.toggle());
    this.seek.addEventListener("input", () => this.go(Number(this.seek.value)));
    this.skip.addEventListener("change", () => this.retime());
    this.speed.addEventListener("change", () => { this.last = performance.now(); });
    root.addEventListener("keydown", (event) => this.key(event));
    this.term.attachCustomKeyEventHandler((event) => { if (event.type === "keydown" && event.key !== "Tab") this.key(event); return false; });
    new ResizeObserver(() => { this.term.options.fontSize = this.font(); }).observe(this.box);
    root.dataset.state = "ready";
    root.player = this;
  }

  font() {
    const fitting = Math.floor((this.box.clientWidth - 24) / (this.size.columns * GLYPH));
    return Math.min(LARGEST_FONT, Math.max(SMALLEST_FONT, fitting));
  }

  // -- loading

  async load() {
    this.say("Loading…");
    const answer = await fetch(this.root.dataset.cast).catch(() => null);
    if (!answer?.ok) {
      const problem = await answer?.json().catch(() => null);
      throw new Error(problem?.error?.message || "Towline does not answer");
    }
    const [head, ...lines] = (await answer.text()).split("\n");
    this.head = JSON.parse(head);
    this.events = lines.filter(Boolean).map((line) => { const [at, kind, text] = JSON.parse(line); return { at, kind, text }; });
    this.begin = { columns: this.head.width, rows: this.head.height };
    this.retime();
    this.mark();
    this.say("");
    this.root.dataset.state = "loaded";
  }

  retime() {
    if (!this.events) return;
    const most = this.skip.checked ? LONGEST_PAUSE : Infinity;
    const here = this.events[this.next]?.at ?? Infinity;
    const isOver = this.next > 0 && this.at >= this.length;
    let last = 0, time = 0, place = 0;
    for (const event of this.events) {
      time += Math.min(Math.max(0, event.at - last), most);
      last = Math.max(last, event.at);
      event.time = time;
      if (event.at <= here) place = time;
    }
    this.length = this.skip.checked ? time : Math.max(time, this.head.duration || 0);
    this.at = isOver ? this.length : this.next ? Math.min(place, this.length) : 0;
    this.seek.max = this.length;
    this.show();
  }

  mark() {
    const marks = this.events.filter(({ kind }) => kind === "m");
    this.marks.hidden = !marks.length;
    this.marks.replaceChildren(...marks.map((event) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${clock(event.at)}  ${event.text}`;
      button.addEventListener("click", () => this.go(event.time));
      item.append(button);
      return item;
    }));
  }

  // -- playing

  async toggle() {
    if (this.root.dataset.state === "playing") { this.pause(); return; }
    try {
      if (!this.events) await this.load();
    } catch (error) {
      this.say(`It cannot be played: ${error.message}`);
      return;
    }
    if (this.at >= this.length) this.go(0);
    this.root.dataset.state = "playing";
    this.play.textContent = "Pause";
    this.say("");
    this.last = performance.now();
    this.timer = setInterval(() => this.tick(), FRAME_SECONDS * 1000);
  }

  pause() {
    clearInterval(this.timer);
    this.root.dataset.state = "paused";
    this.play.textContent = "Play";
  }

  tick() {
    const now = performance.now();
    this.at = Math.min(this.length, this.at + ((now - this.last) / 1000) * Number(this.speed.value));
    this.last = now;
    this.write();
    this.show();
    if (this.at < this.length || this.next < this.events.length) return;
    this.pause();
    this.play.textContent = "Play again";
    this.say("The end");
  }

  write() {
    let text = "";
    while (this.next < this.events.length && this.events[this.next].time <= this.at) {
      const event = this.events[this.next++];
      if (event.kind === "o") text += event.text;
      else if (event.kind === "r") { this.put(text); text = ""; this.resize(event.text); }
      if (text.length > CHUNK) { this.put(text); text = ""; }
    }
    this.put(text);
  }

  put(text) { if (text) this.term.write(text); }

  resize(text) {
    const [columns, rows] = text.split("x").map(Number);
    if (columns > 0 && rows > 0) this.fit({ columns, rows });
  }

  fit(size) {
    this.size = size;
    this.term.resize(size.columns, size.rows);
    this.term.options.fontSize = this.font();
  }

  go(time) {
    if (!this.events) return;
    const wanted = Math.min(Math.max(0, time), this.length);
    if (wanted < this.at) {
      this.term.reset();
      this.fit(this.begin);
      this.next = 0;
    }
    this.at = wanted;
    this.last = performance.now();
    this.write();
    this.show();
    if (this.root.dataset.state !== "playing") this.play.textContent = "Play";
    this.say("");
  }

  show() {
    this.seek.value = this.at;
    const text = `${clock(this.at)} / ${clock(this.length)}`;
    this.time.textContent = text;
    this.seek.setAttribute("aria-valuetext", text);
  }

  // -- keys

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || ["SELECT"].includes(event.target.tagName)) return;
    const onButton = ["BUTTON", "INPUT", "A"].includes(event.target.tagName);
    const acts = { " ": () => this.toggle(), k: () => this.toggle(), ArrowLeft: () => this.go(this.at - STEP), ArrowRight: () => this.go(this.at + STEP), Home: () => this.go(0), End: () => this.go(this.length), "<": () => this.faster(-1), ">": () => this.faster(1) };
    const act = acts[event.key];
    if (!act || (onButton && event.key === " ")) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  faster(step) {
    const place = this.speed.selectedIndex + step;
    if (place >= 0 && place < this.speed.options.length) this.speed.selectedIndex = place;
  }

  say(text) { this.note.textContent = text; }
}

for (const root of document.querySelectorAll(".player[data-cast]")) new Player(root);
