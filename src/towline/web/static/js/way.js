// The lights of a route: tested once the page is there, when somebody asks, and when the route or its agents change.
import { refresh } from "./live.js";

const PAUSE_MS = 3000;
const section = () => document.getElementById("way");
let last = 0;
let timer = 0;

function test() {
  clearTimeout(timer);
  timer = 0;
  last = Date.now();
  const way = section();
  way?.querySelector("[data-test]")?.setAttribute("aria-busy", "true");
  if (way) refresh(way);
}

function soon() {
  if (!timer) timer = setTimeout(test, Math.max(0, last + PAUSE_MS - Date.now()));
}

document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-test]")) return;
  event.preventDefault();
  test();
});
document.addEventListener("towline:event", ({ detail: { topic, ids } }) => {
  const way = section();
  if (!way || !["route", "agent", "certificate", "domain", "resync"].includes(topic)) return;
  const known = [way.dataset.route, ...way.dataset.clusters.split(" ")];
  const named = Object.values(ids);
  if (!named.length || named.some((id) => known.includes(id))) soon();
});
// A test that could not be fetched leaves the lights as they were, and the button ready.
document.addEventListener("towline:refreshed", () => section()?.querySelector("[data-test]")?.removeAttribute("aria-busy"));
if (section() && !section().dataset.tested) test();

// Figures move with each request: they are looked at now and then while somebody looks.
const FIGURES_MS = 5000;
setInterval(() => {
  const figures = document.getElementById("figures");
  if (figures && !document.hidden) refresh(figures);
}, FIGURES_MS);
