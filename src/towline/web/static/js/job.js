// Live progress of a job: events are added as they come; the page's own fragments show the end, and the next job.
let followed = "";
let source = null;

function row(event) {
  const item = document.createElement("li");
  item.id = `event-${event.seq}`;
  item.dataset.level = event.level ?? "info";
  item.dataset.seq = event.seq;
  const time = item.appendChild(document.createElement("time"));
  time.dateTime = new Date(event.at).toISOString();
  time.textContent = new Date(event.at).toLocaleTimeString([], { hour12: false });
  const stage = item.appendChild(document.createElement("span"));
  stage.className = "stage quiet";
  stage.textContent = event.stage.replaceAll("_", " ");
  const text = item.appendChild(document.createElement("span"));
  text.className = "text";
  text.textContent = `${event.service ? `${event.service}: ` : ""}${event.text}`;
  if (event.total) {
    const bar = text.appendChild(document.createElement("progress"));
    bar.max = event.total;
    bar.value = event.current;
    bar.setAttribute("aria-label", event.text);
  }
  return item;
}

const list = () => document.querySelector("[data-job-events]");
const last = () => Number(list()?.lastElementChild?.dataset.seq ?? 0);

function add(event) {
  const place = list();
  if (!place || event.seq <= last()) return;
  const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 80;
  place.append(row(event));
  if (atEnd && place.dataset.scroll) place.lastElementChild.scrollIntoView({ block: "nearest" });
}

function follow() {
  const place = list();
  if (!place || place.dataset.jobState === "ended" || followed === place.dataset.jobEvents) return;
  source?.close();
  followed = place.dataset.jobEvents;
  place.closest("details")?.setAttribute("open", "");
  source = new EventSource(`${followed}?follow=1&after=${last()}`);
  source.addEventListener("progress", ({ data }) => add(JSON.parse(data)));
  source.addEventListener("end", () => {
    source.close();
    document.querySelector('main > .notice[data-kind="working"]')?.remove();
  });
}

// What was deployed is no draft any more: the editor left the draft's name when it was sent.
const sent = sessionStorage.getItem("towline-sent");
if (sent) {
  localStorage.removeItem(sent);
  sessionStorage.removeItem("towline-sent");
}

document.addEventListener("towline:refreshed", follow);
follow();
