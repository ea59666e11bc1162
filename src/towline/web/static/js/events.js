// The page's view of the server's events: through the shared worker where there is one, else directly.
export function listen({ event, state }) {
  const { events, eventsAfter: after, eventsTopics, worker } = document.body.dataset;
  if (!events) return;
  const topics = eventsTopics.split(" ");
  if (window.SharedWorker) {
    const shared = new SharedWorker(worker, { name: "towline-events" });
    shared.port.onmessage = ({ data }) => data.kind === "event" ? event(data.topic, data.ids) : state(data.state);
    shared.port.postMessage({ open: events, after, topics });
    window.addEventListener("pagehide", () => shared.port.postMessage({ close: true }));
    window.addEventListener("pageshow", (shown) => shown.persisted && location.reload());
    return;
  }
  const source = new EventSource(`${events}?after=${encodeURIComponent(after)}`);
  source.onopen = () => state("open");
  source.onerror = () => state("lost");
  for (const topic of topics) source.addEventListener(topic, (e) => event(topic, e.data ? JSON.parse(e.data) : {}));
}
