// What every page needs: live fragments, relative times, copy buttons, pressed buttons, dialogs and keys.
// Pages work without it; nothing here builds HTML from user content.
import { listen } from "./events.js";
import { ago } from "./times.js";

const all = (selector, root = document) => root.querySelectorAll(selector);

// -- times ---------------------------------------------------------------------------------------
function refreshTimes() {
  for (const node of all("time[data-ago]")) {
    const at = new Date(node.dateTime);
    node.textContent = ago(at);
    node.title = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
}
setInterval(refreshTimes, 10_000);
refreshTimes();

// -- live fragments: an element with data-live="topic topic" is fetched again and morphed in place ----
const waiting = new Map();

function refresh(element) {
  if (!element.id || waiting.has(element.id)) return;
  waiting.set(element.id, setTimeout(async () => {
    waiting.delete(element.id);
    if (!document.body.contains(element) || element.matches(":has(dialog[open], details.menu[open])")) return;
    await window.htmx?.ajax("GET", element.dataset.liveUrl || location.href, {
      target: `#${CSS.escape(element.id)}`, select: `#${CSS.escape(element.id)}`, swap: "outerMorph",
    });
    refreshTimes();
  }, 150));
}

function concerns(element, topic, ids) {
  if (topic === "resync") return true;
  if (!element.dataset.live.split(" ").includes(topic)) return false;
  const own = element.dataset.liveId;
  return !own || Object.values(ids).includes(own) || !Object.keys(ids).length;
}

const offline = document.getElementById("offline");
listen({
  event: (topic, ids) => {
    for (const element of all("[data-live]")) if (concerns(element, topic, ids)) refresh(element);
    document.dispatchEvent(new CustomEvent("towline:event", { detail: { topic, ids } }));
  },
  state: (state) => {
    const lost = state === "lost";
    if (lost && offline.hidden) offline.querySelector("[data-since]").textContent = new Date().toLocaleTimeString();
    if (!lost && !offline.hidden) for (const element of all("[data-live]")) refresh(element);
    offline.hidden = !lost;
    document.body.classList.toggle("stale", lost);
  },
});

// -- buttons ---------------------------------------------------------------------------------------
document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(document.querySelector(copy.dataset.copy).textContent.trim());
    const label = copy.getAttribute("aria-label");
    copy.setAttribute("aria-label", "Copied");
    copy.classList.add("primary");
    setTimeout(() => { copy.setAttribute("aria-label", label); copy.classList.remove("primary"); }, 1200);
  }
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    const dialog = document.querySelector(opener.dataset.dialog);
    if (dialog) { event.preventDefault(); dialog.showModal(); }
  }
  if (event.target.closest("[data-close]")) event.target.closest("dialog")?.close();
  for (const menu of all("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || event.defaultPrevented || event.target.method === "dialog") return;
  setTimeout(() => { button.setAttribute("aria-busy", "true"); });
  setTimeout(() => button.removeAttribute("aria-busy"), 15_000);
});
window.addEventListener("pageshow", () => { for (const busy of all("[aria-busy]")) busy.removeAttribute("aria-busy"); });

// A field with data-confirm-name enables the form's last button only when the name was typed.
document.addEventListener("input", (event) => {
  const field = event.target.closest("[data-confirm-name]");
  if (field) field.form.querySelector("[data-confirmed]").disabled = field.value !== field.dataset.confirmName;
  const auto = event.target.closest("form[data-auto]");
  if (auto && event.target.matches('input[type="search"]')) later(auto);
});
document.addEventListener("change", (event) => {
  const auto = event.target.closest("form[data-auto]");
  if (auto) auto.requestSubmit();
});
let pending = 0;
function later(form) {
  clearTimeout(pending);
  pending = setTimeout(() => {
    const url = new URL(form.action);
    for (const [key, value] of new FormData(form)) if (value) url.searchParams.set(key, value);
    history.replaceState(null, "", url);
    const target = document.querySelector(form.dataset.auto);
    if (target) { target.dataset.liveUrl = url.href; refresh(target); }
  }, 200);
}

// -- theme ---------------------------------------------------------------------------------------
for (const control of all("[data-theme-choice]")) {
  control.addEventListener("click", () => {
    const choice = control.dataset.themeChoice;
    document.cookie = `theme=${choice}; path=/; max-age=31536000; samesite=lax`;
    if (choice) document.documentElement.dataset.theme = choice; else delete document.documentElement.dataset.theme;
    for (const other of all("[data-theme-choice]")) other.setAttribute("aria-pressed", String(other === control));
  });
}

// -- keys ---------------------------------------------------------------------------------------
const PLACES = { f: "/fleet", d: "/deployments", j: "/jobs", a: "/audit", s: "/settings" };
let went = 0;
document.addEventListener("keydown", (event) => {
  const search = document.getElementById("search");
  if ((event.ctrlKey || event.metaKey) && event.key === "k") { event.preventDefault(); search?.focus(); search?.select(); return; }
  if (event.key === "Escape") for (const menu of all("details.menu[open]")) menu.open = false;
  if (event.target.closest("input, textarea, select, .xterm, [contenteditable]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); search?.focus(); }
  else if (event.key === "?") document.getElementById("keys").showModal();
  else if (event.key === "g") went = Date.now();
  else if (Date.now() - went < 1200 && PLACES[event.key]) location.assign(PLACES[event.key]);
});
