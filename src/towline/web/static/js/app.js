// What every page needs: live fragments, relative times, copy buttons, pressed buttons, dialogs and keys.
// Pages work without it; nothing here builds HTML from user content.
import { listen } from "./events.js";
import { all, concerns, refresh } from "./live.js";
import { ago } from "./times.js";

// -- times ---------------------------------------------------------------------------------------
function refreshTimes() {
  for (const node of all("time[data-ago]")) {
    const at = new Date(node.dateTime);
    node.textContent = ago(at);
    node.title = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
  }
  for (const node of all("time[data-clock]")) node.textContent = new Date(node.dateTime).toLocaleTimeString([], { hour12: false });
  for (const node of all("time[data-moment]")) node.textContent = new Date(node.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const box of all(".table-box")) box.toggleAttribute("tabindex", false);
  for (const box of all(".table-box")) if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
}
document.addEventListener("towline:refreshed", refreshTimes);
setInterval(refreshTimes, 10_000);
refreshTimes();

// -- events of the server -------------------------------------------------------------------------
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

// A page over plain HTTP on another machine has no clipboard API: the text is selected there, ready for Ctrl-C.
async function copyText(node) {
  if (navigator.clipboard) { await navigator.clipboard.writeText(node.textContent.trim()); return; }
  getSelection().selectAllChildren(node);
  document.execCommand("copy");
}

// -- buttons ---------------------------------------------------------------------------------------
document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await copyText(document.querySelector(copy.dataset.copy));
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
  if (event.target.closest("[data-close]")) { event.preventDefault(); event.target.closest("dialog")?.close(); }
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
  const auto = event.target.form?.closest("form[data-auto]");
  if (auto && event.target.matches("select")) go(auto);
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-auto]")) return;
  event.preventDefault();
  go(event.target);
});
for (const field of all("[data-confirm-name]")) field.form.querySelector("[data-confirmed]").disabled = true;

// Addresses hold only the filters that are set, so that a link sent to a colleague is short and shows the same.
function address(form) {
  const url = new URL(form.getAttribute("action"), location.href);  // a field may be called "action"
  for (const [key, value] of new FormData(form)) if (value) url.searchParams.set(key, value);
  return url;
}
const go = (form) => location.assign(address(form));
let pending = 0;
function later(form) {
  clearTimeout(pending);
  pending = setTimeout(() => {
    history.replaceState(null, "", address(form));
    const target = form.dataset.auto && document.querySelector(form.dataset.auto);
    if (target) refresh(target);
  }, 200);
}

// On a narrow screen the tab that is open may lie outside of the row of tabs.
for (const tab of all(".tabs [aria-current]")) tab.parentElement.scrollLeft = tab.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2;

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
const PLACES = { f: "/fleet", d: "/deployments", r: "/routes", j: "/jobs", a: "/audit", s: "/settings" };
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
