// The tab "Plan": collections, edges and rows as a graph, with what each step took and the way of the last change.

const element = (id) => document.getElementById(id);
const svg = element("graph");
const WIDTH = 900, BOX = 190, WIDE = 240, HEIGHT = 44, GAP = 14;
let drawn = "";

function shape(tag, attributes, text) {
  const made = document.createElementNS(svg.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function box({ x, y, label, count, passed, width = BOX }) {
  const group = shape("g", { class: passed ? "passed" : "" });
  group.append(
    shape("rect", { x, y, width, height: HEIGHT, rx: 7 }),
    shape("text", { x: x + 12, y: y + 19 }, label),
    shape("text", { x: x + 12, y: y + 36, class: "count" }, count),
  );
  return group;
}

function link(from, to, passed) {
  const [x, y, u, v] = [from.x + (from.width ?? BOX), from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
  const half = (x + u) / 2;
  return shape("path", { d: `M${x},${y} C${half},${y} ${half},${v} ${u},${v}`, class: passed ? "passed" : "" });
}

const counted = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
const taken = (step) => counted(step.taken, "change", "changes");

function places({ collections, views }) {
  const middle = (WIDTH - WIDE) / 2, right = WIDTH - BOX - 2;
  const edges = [], rows = [];
  let y = 2;
  for (const view of views) {
    const top = y;
    for (const edge of view.edges) {
      const label = `${view.name}.${edge.name}`;
      edges.push({ x: middle, y, width: WIDE, label, count: taken(edge), passed: edge.passed, edge, view });
      y += HEIGHT + GAP;
    }
    const count = `${counted(view.rows, "row", "rows")}, ${view.written.toLocaleString("en")} written`;
    rows.push({ x: right, y: (top + y - HEIGHT - GAP) / 2, label: view.name, count, passed: view.changed.length > 0, view });
    y += GAP;
  }
  const step = y / collections.length;
  const sources = collections.map((one, index) =>
    ({ x: 2, y: step * (index + 0.5) - HEIGHT / 2, label: one.name, count: taken(one), passed: one.passed, one }));
  return { sources, edges, rows, height: y };
}

function drawGraph(plan) {
  const { sources, edges, rows, height } = places(plan);
  const links = [];
  for (const edge of edges) {
    links.push(link(sources.find(({ one }) => one.name === edge.edge.collection), edge, edge.passed));
    const row = rows.find(({ view }) => view === edge.view);
    links.push(link(edge, row, edge.passed && row.passed));
  }
  links.sort((a, b) => a.classList.length - b.classList.length); // the way lies above the others
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.replaceChildren(...links, ...[...sources, ...edges, ...rows].map(box));
}

function cells(...texts) {
  const line = document.createElement("tr");
  line.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  return line;
}

function drawSteps({ collections, views }) {
  const lines = collections.map((one) => cells(one.name, one.taken, "", one.passed ? "passed" : ""));
  for (const view of views) {
    for (const edge of view.edges) lines.push(cells(`${view.name}.${edge.name}`, edge.taken, "", edge.passed ? "passed" : ""));
    lines.push(cells(view.name, "", view.rows, counted(view.changed.length, "row written", "rows written")));
  }
  element("steps").replaceChildren(...lines);
}

function named(paths) {
  paths = paths.map((path) => decodeURIComponent(path));
  return paths.length > 3 ? `${paths.slice(0, 3).join(", ")} and ${paths.length - 3} more` : paths.join(", ");
}

function drawWay({ last, views }) {
  if (!last.length) return;
  const rows = views.flatMap(({ changed }) => changed);
  element("way").textContent = `${named(last)} → ${rows.length ? named(rows) : "no row differs"}`;
}

async function look() {
  if (element("plan").hidden) return;
  try {
    const text = await (await fetch("plan.json")).text();
    if (text === drawn) return;
    const plan = JSON.parse(text);
    drawGraph(plan);
    drawSteps(plan);
    drawWay(plan);
    drawn = text;
  } catch {
    // The server is away; the light says so, and the next look finds it again.
  }
}

function choose(tab) {
  for (const other of document.querySelectorAll("[role=tab]")) {
    const is = other === tab;
    other.setAttribute("aria-selected", String(is));
    other.tabIndex = is ? 0 : -1;
    element(other.getAttribute("aria-controls")).hidden = !is;
  }
  look();
}

const tabs = [...document.querySelectorAll("[role=tab]")];
for (const tab of tabs) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    next.focus();
    choose(next);
  });
}
if (location.hash === "#show=plan") choose(element("tab-plan"));
setInterval(look, 400);
