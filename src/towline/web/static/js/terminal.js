// A terminal in a container: xterm.js at this end, exec frames over one WebSocket.
import { CLOSE_STDIN, encodeFrame, EXIT, FrameReader, RESIZE, STDERR, STDIN, STDOUT } from "./frames.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

class TerminalView {
  constructor(root) {
    this.root = root;
    this.note = document.querySelector(root.dataset.note);
    this.term = new window.Terminal({ fontFamily: "ui-monospace, Menlo, Consolas, monospace", fontSize: 13, scrollback: 5000, cursorBlink: true, theme: { background: "#0d1014" } });
    this.fit = new window.FitAddon.FitAddon();
    this.term.loadAddon(this.fit);
    this.term.open(root);
    try { this.term.loadAddon(new window.WebglAddon.WebglAddon()); } catch { /* the DOM renderer serves where there is no WebGL */ }
    this.fit.fit();
    this.term.onData((text) => this.send(STDIN, encoder.encode(text)));
    this.term.onResize(({ cols, rows }) => this.send(RESIZE, encoder.encode(JSON.stringify({ columns: cols, rows }))));
    new ResizeObserver(() => this.fit.fit()).observe(root);
    document.querySelector(root.dataset.again)?.addEventListener("click", () => this.connect());
    this.connect();
  }

  connect() {
    this.socket?.close();
    this.term.reset();
    this.root.dataset.state = "connecting";
    this.say("Connecting…");
    const url = new URL(this.root.dataset.url, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("tty", "1");
    url.searchParams.set("columns", this.term.cols);
    url.searchParams.set("rows", this.term.rows);
    const reader = new FrameReader();
    this.ended = false;
    const socket = this.socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { this.say("Connected"); this.root.dataset.state = "open"; this.term.focus(); };
    socket.onmessage = ({ data }) => { for (const frame of reader.feed(new Uint8Array(data))) this.frame(frame); };
    socket.onclose = ({ reason }) => {
      if (socket !== this.socket) return;
      const opened = this.root.dataset.state === "open";
      this.root.dataset.state = "closed";
      if (this.ended) return;
      if (reason || opened) this.say(reason || "The connection broke; the command may still run. “Connect again” opens a new shell");
      else this.explain();
    };
  }

  // A refused WebSocket tells a page nothing: ask for the cluster to say which hop it was.
  async explain() {
    const answer = await fetch(this.root.dataset.cluster, { headers: { Accept: "application/json" } }).catch(() => null);
    const cluster = await answer?.json().catch(() => null);
    if (!cluster) this.say("Towline does not answer; “Connect again” tries once more");
    else if (cluster.error) this.say(cluster.error.message);
    else if (!cluster.link.connected) this.say(`${cluster.name} is away: ${cluster.health.reason}`);
    else this.say("The terminal was refused: the container may have stopped, or your rights have changed");
  }

  frame({ kind, body }) {
    if (kind === STDOUT || kind === STDERR) this.term.write(body.slice());
    if (kind !== EXIT) return;
    const { code, error } = JSON.parse(decoder.decode(body));
    this.ended = true;
    this.say(error || `The session ended with exit code ${code}`);
  }

  send(kind, body) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(encodeFrame(kind, body));
  }

  say(text) { this.note.textContent = text; }
}

for (const root of document.querySelectorAll(".console[data-url]")) root.view = new TerminalView(root);
export { CLOSE_STDIN };
