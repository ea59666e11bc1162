// Live fragments: when the server says that something changed, the page is fetched once more and every element with
// data-live is morphed into its new self, so that focus, selection, scroll and opened parts stay as they are.
const GATHER_MS = 150;
const SCROLLED_PX = 120;
const waiting = new Set();
let timer = 0;
let running = false;

export const all = (selector, root = document) => root.querySelectorAll(selector);

export function refresh(element) {
  if (!element.id) return;
  waiting.add(element.id);
  schedule();
}

function schedule() {
  if (running || timer) return;
  timer = setTimeout(async () => {
    timer = 0;
    running = true;
    await update([...waiting]).finally(() => { running = false; });
    if (waiting.size) schedule();
  }, GATHER_MS);
}

async function update(ids) {
  waiting.clear();
  const byAddress = new Map();
  for (const id of ids) {
    const element = document.getElementById(id);
    if (!element) continue;
    const url = new URL(element.dataset.liveUrl || location.href, location.href);
    url.hash = "";
    byAddress.set(url.href, [...(byAddress.get(url.href) ?? []), element]);
  }
  for (const [url, elements] of byAddress) await updateFrom(url, elements);
  document.dispatchEvent(new CustomEvent("towline:refreshed"));
}

async function updateFrom(url, elements) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const element of elements) {
    const found = fresh.getElementById(element.id);
    if (!found || !element.isConnected || element.querySelector("dialog[open], details.menu[open]")) continue;
    if (found.isEqualNode(element)) continue;
    const before = new Set(rows(element));
    await window.htmx.swap({ text: found.outerHTML, target: element, sourceElement: element, swap: "outerMorph" });
    if (element.dataset.announce !== undefined) announce(element, rows(element).filter((id) => !before.has(id)).length);
  }
}

const rows = (element) => [...all("tr[id]", element)].map((row) => row.id);

function announce(element, count) {
  if (!count || window.scrollY < SCROLLED_PX) return;
  let news = element.previousElementSibling;
  if (!news?.matches(".news")) {
    news = document.createElement("div");
    news.className = "news";
    news.setAttribute("role", "status");
    element.before(news);
  }
  const total = Number(news.dataset.count ?? 0) + count;
  news.dataset.count = String(total);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "primary";
  button.textContent = `${total} new`;
  button.addEventListener("click", () => { window.scrollTo({ top: 0 }); news.remove(); });
  news.replaceChildren(button);
}

// What a reader opened or a script added is kept: the server's page knows nothing of it.
const KEPT = { DETAILS: ["open"], TIME: ["title"], DIV: ["tabindex"], BUTTON: ["aria-busy"] };
window.htmx?.registerExtension("keep", {
  htmx_before_morph_attr: (node, { attrName }) => !KEPT[node.tagName]?.includes(attrName),
});

export function concerns(element, topic, ids) {
  if (topic === "resync") return true;
  if (!element.dataset.live.split(" ").includes(topic)) return false;
  const own = element.dataset.liveId;
  return !own || Object.values(ids).includes(own) || !Object.keys(ids).length;
}
