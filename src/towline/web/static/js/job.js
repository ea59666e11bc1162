// Live progress of a job: events are added as they come; the page's own fragments show the end.
const LIST = document.querySelector("[data-job-events]");

function row(event) {
  const item = document.createElement("li");
  item.dataset.level = event.level ?? "info";
  item.dataset.seq = event.seq;
  const time = item.appendChild(document.createElement("time"));
  time.dateTime = new Date(event.at).toISOString();
  time.textContent = new Date(event.at).toLocaleTimeString([], { hour12: false });
  const stage = item.appendChild(document.createElement("span"));
  stage.className = "stage quiet";
  stage.textContent = event.stage;
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

function follow(list) {
  const last = () => Number(list.lastElementChild?.dataset.seq ?? 0);
  const source = new EventSource(`${list.dataset.jobEvents}?follow=1&after=${last()}`);
  source.addEventListener("progress", ({ data }) => {
    const event = JSON.parse(data);
    if (event.seq <= last()) return;
    const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 80;
    list.append(row(event));
    if (atEnd && list.dataset.scroll) list.lastElementChild.scrollIntoView({ block: "nearest" });
  });
  source.addEventListener("end", () => source.close());
}

if (LIST && LIST.dataset.jobState !== "ended") follow(LIST);
