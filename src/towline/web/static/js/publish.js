// The form that publishes: services of the chosen cluster, the name that is suggested, the fields that matter.
// Without it every field is in sight and the page works the same.
const form = document.getElementById("publish");
if (form) {
  const { cluster, to, name, host, address, port } = form.elements;
  const domain = form.dataset.domain;
  const suggestion = form.querySelector("[data-suggestion]");
  const label = (text) => text.toLowerCase().replace(/[^a-z0-9-]+/g, "-").replace(/^-+|-+$/g, "");
  let named = name.value && name.value !== suggested();

  function suggested() {
    return label(to.value.slice(to.value.lastIndexOf("/") + 1).split(":")[0]);
  }

  function show() {
    form.querySelector("[data-address]").hidden = to.value !== "";
    address.required = to.value === "";
    form.querySelector("[data-port]").hidden = to.value === "";
    port.required = to.value.endsWith(":");
    port.placeholder = port.required ? "80" : "as listed";
    if (!named) name.value = suggested();
    if (domain) {
      const given = `${name.value || "NAME"}-${label(cluster.value)}.${domain}`;
      suggestion.textContent = given;
      host.placeholder = given;
    }
  }

  // Another cluster has other services: the page is asked for them, and keeps what was typed.
  cluster.addEventListener("change", () => {
    const url = new URL(location.href);
    url.search = "";
    url.searchParams.set("cluster", cluster.value);
    if (named) url.searchParams.set("name", name.value);
    if (host.value) url.searchParams.set("host", host.value);
    location.assign(url);
  });
  to.addEventListener("change", show);
  name.addEventListener("input", () => { named = name.value !== ""; show(); });
  show();
}

// Rows of visitors: "Add" clones the template row.
document.addEventListener("click", (event) => {
  const add = event.target.closest("[data-add-row]");
  if (add) {
    const template = document.querySelector(add.dataset.addRow);
    template.before(template.content.cloneNode(true));
    template.previousElementSibling?.querySelector("input")?.focus();
  }
  event.target.closest("[data-remove-row]")?.closest(".row")?.remove();
});
