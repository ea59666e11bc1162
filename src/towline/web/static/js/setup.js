// The one-time link carries its token behind the #, which browsers never send: put it into the form and out of sight.
const field = document.querySelector("[name=token]");
const token = location.hash.slice(1);
if (field && token) {
  field.value = token;
  field.closest(".field").hidden = true;
  history.replaceState(null, "", location.pathname);
  document.querySelector("[name=username]")?.focus();
}
