// The Compose editor: line numbers, Tab, validation while typing, and a draft that survives a closed page.
const WAIT_MS = 500;

class Editor {
  constructor(root) {
    this.root = root;
    this.area = root.querySelector("textarea");
    this.gutter = root.querySelector(".gutter");
    this.problems = document.querySelector(root.dataset.problems);
    this.plan = document.querySelector(root.dataset.plan);
    this.form = this.area.form;
    this.key = `towline-draft:${location.pathname}:${this.area.name}`;
    this.bad = new Set();
    this.original = this.area.value;
    const draft = localStorage.getItem(this.key);
    if (draft === this.original) localStorage.removeItem(this.key);
    else if (draft?.trim()) this.offerDraft(draft);
    this.area.addEventListener("input", () => this.changed());
    this.area.addEventListener("keydown", (event) => this.keydown(event));
    this.form.addEventListener("submit", () => sessionStorage.setItem("towline-sent", this.key));
    this.form.querySelector("[type=file]")?.addEventListener("change", (event) => this.take(event.target));
    for (const field of this.form.querySelectorAll("[data-validates]")) field.addEventListener("input", () => this.later());
    this.resize();
    if (this.area.value.trim()) this.later(0);
  }

  offerDraft(draft) {
    const note = document.createElement("p");
    note.className = "row small";
    note.dataset.draft = "";
    note.append("There is a draft that was not sent. ");
    const take = document.createElement("button");
    take.type = "button";
    take.textContent = "Take the draft";
    take.addEventListener("click", () => { this.area.value = draft; note.remove(); this.changed(); });
    note.append(take);
    this.root.before(note);
  }

  async take(input) {
    const [file] = input.files;
    if (!file) return;
    this.area.value = await file.text();
    input.value = "";
    this.changed();
  }

  changed() {
    localStorage.setItem(this.key, this.area.value);
    this.resize();
    this.later();
  }

  resize() {
    const count = this.area.value.split("\n").length;
    this.area.style.height = `${count * 20 + 24}px`;
    this.gutter.replaceChildren(...Array.from({ length: count }, (_, index) => {
      const number = document.createElement("div");
      number.textContent = String(index + 1);
      if (this.bad.has(index + 1)) { number.className = "bad"; number.textContent = `! ${index + 1}`; }
      return number;
    }));
  }

  keydown(event) {
    if (event.key === "Escape") { this.free = true; return; }
    if (event.key !== "Tab" || event.shiftKey || this.free) { this.free = false; return; }
    event.preventDefault();
    this.area.setRangeText("  ", this.area.selectionStart, this.area.selectionEnd, "end");
    this.changed();
  }

  later(wait = WAIT_MS) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), wait);
  }

  async check() {
    const url = this.checkUrl();
    if (!url || !this.area.value.trim()) return;
    const turn = this.turn = (this.turn ?? 0) + 1;
    const body = { compose: this.area.value, env: this.form.elements.env?.value || null };
    const answer = await fetch(url, {
      method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", Accept: "application/json" },
    }).catch(() => null);
    if (!answer) return;
    const result = await answer.json().catch(() => ({}));
    if (turn !== this.turn) return;
    this.show(result.problems ?? result.error?.detail?.problems ?? (result.error ? [{ message: result.error.message }] : []));
  }

  checkUrl() {
    if (this.root.dataset.plain !== undefined) return "";
    const name = this.form.elements.name?.value || this.root.dataset.name;
    const cluster = this.form.elements.cluster?.value || this.root.dataset.cluster;
    if (!name || !cluster) return "";
    return `/api/v1/clusters/${encodeURIComponent(cluster)}/deployments/${encodeURIComponent(name)}/validate`;
  }

  show(problems) {
    this.bad = new Set(problems.map((problem) => problem.line).filter(Boolean));
    this.area.setAttribute("aria-invalid", String(problems.length > 0));
    this.problems.replaceChildren(...problems.map((problem) => {
      const item = document.createElement("li");
      item.textContent = `${problem.line ? `Line ${problem.line}: ` : ""}${problem.message}`;
      return item;
    }));
    if (!problems.length) {
      const fine = document.createElement("li");
      fine.className = "quiet";
      fine.textContent = "The file is well formed.";
      this.problems.append(fine);
    }
    this.root.dataset.checked = String(problems.length);
    this.resize();
  }
}

for (const root of document.querySelectorAll(".editor")) new Editor(root);

// Rows of variables and secrets: "Add" clones the template row.
document.addEventListener("click", (event) => {
  const add = event.target.closest("[data-add-row]");
  if (add) {
    const template = document.querySelector(add.dataset.addRow);
    template.before(template.content.cloneNode(true));
    template.previousElementSibling?.querySelector("input")?.focus();
  }
  event.target.closest("[data-remove-row]")?.closest(".row")?.remove();
});
