// One event connection for all tabs of a browser: a shared worker that passes every event on to its ports.
const ports = new Set();
let source = null;
let lastState = "connecting";

function tell(message) {
  for (const port of ports) port.postMessage(message);
}

function open(url) {
  if (source) return;
  source = new EventSource(url);
  source.onopen = () => tell({ kind: "state", state: (lastState = "open") });
  source.onerror = () => {
    tell({ kind: "state", state: (lastState = "lost") });
    if (source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(() => ports.size && open(url), 3000);
    }
  };
  for (const topic of ["cluster", "agent", "deployment", "job", "inventory", "kubernetes", "audit", "access", "resync"]) {
    source.addEventListener(topic, (event) => tell({ kind: "event", topic, ids: event.data ? JSON.parse(event.data) : {} }));
  }
}

self.onconnect = (connected) => {
  const port = connected.ports[0];
  ports.add(port);
  port.onmessage = ({ data }) => {
    if (data.open) {
      open(data.open);
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
