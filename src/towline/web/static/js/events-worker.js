// One event connection for all tabs of a browser: a shared worker that passes every event on to its ports.
// It keeps the last events, so that a tab gets what happened between the making of its page and its first question.
const KEPT = 500;
const ports = new Set();
const kept = [];
let source = null;
let begin = "";
let topics = [];
let lastState = "connecting";

function tell(message) {
  for (const port of ports) port.postMessage(message);
}

function open(url, after) {
  begin = after;
  kept.length = 0;
  source = new EventSource(`${url}?after=${encodeURIComponent(after)}`);
  source.onopen = () => tell({ kind: "state", state: (lastState = "open") });
  source.onerror = () => {
    tell({ kind: "state", state: (lastState = "lost") });
    if (source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(() => ports.size && !source && open(url, kept.at(-1)?.position || begin), 3000);
    }
  };
  for (const topic of topics) source.addEventListener(topic, (event) => take(topic, event));
}

function take(topic, { data, lastEventId }) {
  const event = { kind: "event", topic, ids: data ? JSON.parse(data) : {}, position: lastEventId };
  kept.push(event);
  if (kept.length > KEPT) begin = kept.shift().position;
  tell(event);
}

// A position is the server's life and a count: LIFE-COUNT.
const life = (position) => position.split("-")[0];
const count = (position) => Number(position.split("-")[1]);

function catchUp(port, after) {
  const isKnown = life(after) === life(begin) && count(after) >= count(begin);
  if (!isKnown) return port.postMessage({ kind: "event", topic: "resync", ids: {} });
  for (const event of kept) {
    if (life(event.position) !== life(after) || count(event.position) > count(after)) port.postMessage(event);
  }
}

self.onconnect = (connected) => {
  const port = connected.ports[0];
  ports.add(port);
  port.onmessage = ({ data }) => {
    if (data.open) {
      if (source) catchUp(port, data.after);
      else { topics = data.topics; open(data.open, data.after); }
      port.postMessage({ kind: "state", state: lastState });
    }
    if (data.close) {
      ports.delete(port);
      if (!ports.size && source) {
        source.close();
        source = null;
      }
    }
  };
};
