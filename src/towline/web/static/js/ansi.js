// Turns one log line with ANSI colours into nodes; every other control sequence is dropped, text stays text.
const SEQUENCE = /\x1b(?:\[([0-9;]*)([A-Za-z])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

export function ansiNodes(text, query) {
  const nodes = [];
  let style = { colour: "", bold: false };
  let at = 0;
  for (const match of text.matchAll(SEQUENCE)) {
    push(nodes, text.slice(at, match.index), style, query);
    if (match[2] === "m") style = next(style, match[1]);
    at = match.index + match[0].length;
  }
  push(nodes, text.slice(at), style, query);
  return nodes;
}

export const plain = (text) => text.replace(SEQUENCE, "").replace(CONTROL, "");

function next(style, codes) {
  const result = { ...style };
  for (const code of (codes || "0").split(";").map(Number)) {
    if (code === 0) { result.colour = ""; result.bold = false; }
    else if (code === 1) result.bold = true;
    else if (code === 22) result.bold = false;
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) result.colour = `ansi${code % 10}`;
    else if (code === 39) result.colour = "";
  }
  return result;
}

function push(nodes, raw, style, query) {
  const text = raw.replace(CONTROL, "");
  if (!text) return;
  for (const [part, marked] of split(text, query)) {
    const node = document.createElement(marked ? "mark" : "span");
    node.textContent = part;
    if (style.colour) node.className = style.colour;
    if (style.bold) node.classList.add("bold");
    nodes.push(node);
  }
}

function* split(text, query) {
  if (!query) { yield [text, false]; return; }
  const lower = text.toLowerCase();
  const wanted = query.toLowerCase();
  let at = 0;
  for (let hit = lower.indexOf(wanted); hit >= 0; hit = lower.indexOf(wanted, at)) {
    if (hit > at) yield [text.slice(at, hit), false];
    yield [text.slice(hit, hit + wanted.length), true];
    at = hit + wanted.length;
  }
  if (at < text.length) yield [text.slice(at), false];
}
