// The live page: rows of views over one WebSocket, kept by key, and drawn when a commit is whole.

// A connection that comes back by itself, and then gets what it missed.
class Live {
  constructor(url, onState) {
    this.url = url;
    this.onState = onState;
    this.views = new Map();
    this.calls = new Map();
    this.numbers = new Map();
    this.last = 0;
    this.failures = 0;
    this.connect();
  }

  connect() {
    this.onState(this.failures ? "reconnecting" : "connecting");
    this.socket = new WebSocket(this.url);
    this.socket.onopen = () => {
      this.failures = 0;
      this.numbers.clear();
      for (const view of this.views.keys()) this.begin(view);
    };
    this.socket.onmessage = (event) => this.take(JSON.parse(event.data));
    this.socket.onclose = () => {
      for (const { reject } of this.calls.values()) reject(new Error("the connection was lost"));
      this.calls.clear();
      this.failures += 1;
      this.onState("reconnecting");
      const longest = Math.min(10_000, 250 * 2 ** this.failures);
      setTimeout(() => this.connect(), longest * (0.5 + Math.random() / 2));
    };
  }

  call(method, params) {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.reject(new Error("not connected"));
    this.last += 1;
    const id = this.last;
    this.socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return new Promise((resolve, reject) => this.calls.set(id, { resolve, reject }));
  }

  follow(view, draw) {
    this.views.set(view, { rows: new Map(), pending: [], offset: "-1", draw });
    if (this.socket.readyState === WebSocket.OPEN) this.begin(view);
  }

  begin(view) {
    const known = this.views.get(view);
    known.pending = [];
    this.call("subscribe", { view, offset: known.offset })
      .then(({ subscription }) => {
        this.numbers.set(subscription, known);
        this.onState("live");
      })
      .catch((error) => this.onState(error.message));
  }

  take(message) {
    if (message.id !== undefined && this.calls.has(message.id)) {
      const { resolve, reject } = this.calls.get(message.id);
      this.calls.delete(message.id);
      if (message.error) reject(new Error(message.error.data?.detail ?? message.error.message));
      else resolve(message.result);
    } else if (message.method === "rows") {
      this.apply(message.params);
    } else if (message.method === "ended") {
      this.onState(message.params.problem.title);
    }
  }

  apply({ subscription, messages, offset, upToDate }) {
    const known = this.numbers.get(subscription);
    if (!known) return;
    known.pending.push(...messages);
    if (!upToDate) return;
    const changed = new Set();
    for (const { key, value, headers } of known.pending) {
      if (headers.control === "reset" || headers.control === "snapshot-start") known.rows.clear();
      else if (headers.operation === "delete") known.rows.delete(key);
      else if (headers.operation) {
        known.rows.set(key, value);
        changed.add(key);
      }
    }
    known.pending = [];
    known.offset = offset;
    known.draw(known.rows, changed);
  }
}

const element = (id) => document.getElementById(id);
const asked = new Map(); // since when each ticket waits for its change
let shown = new Map();

function state(text) {
  element("connection").textContent = text;
  element("light").classList.toggle("on", text === "live");
}

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function participant(one) {
  const id = `p-${one.ticket}`;
  const toggle = make("button", { type: "button", role: "switch", "aria-labelledby": id, "data-ticket": one.ticket });
  toggle.addEventListener("click", () => change(one.ticket, toggle));
  const who = make("span", { class: "who" }, make("span", { id }), make("span", { class: "organization" }));
  return make("li", { "data-key": one.ticket }, who, toggle);
}

function change(ticket, toggle) {
  const attends = toggle.getAttribute("aria-checked") !== "true";
  asked.set(ticket, performance.now());
  live.call("update", { view: "Participation", id: ticket, fields: { attends } }).catch((error) => {
    asked.delete(ticket);
    element("took").textContent = `Not changed: ${error.message}`;
  });
}

function drawMeetings(rows) {
  const places = element("meetings");
  const now = new Map();
  const sorted = [...rows].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [index, [key, { fields }]] of sorted.entries()) {
    let section = places.querySelector(`section[data-key="${CSS.escape(key)}"]`);
    if (!section) {
      const title = make("h2", { id: `m-${key}` });
      section = make("section", { "data-key": key, "aria-labelledby": `m-${key}` }, title, make("p", { class: "facts" }), make("ul"));
    }
    // What is moved in the document loses the focus.
    if (places.children[index] !== section) places.insertBefore(section, places.children[index] ?? null);
    section.querySelector("h2").textContent = fields.address;
    section.querySelector(".facts").replaceChildren(
      make("span", {}, fields.status),
      make("span", {}, make("b", { "data-count": "attending" }, String(fields.numAttending)), " attend"),
      make("span", {}, make("b", { "data-count": "hearing" }, String(fields.numHearingAids)), " hearing aids"),
    );
    const list = section.querySelector("ul");
    const wanted = new Set(fields.participants.map((one) => one.ticket));
    for (const item of [...list.children]) if (!wanted.has(item.dataset.key)) item.remove();
    fields.participants.forEach((one, index) => {
      const item = list.querySelector(`li[data-key="${CSS.escape(one.ticket)}"]`) ?? participant(one);
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
      draw(item, one);
      now.set(one.ticket, one.attends);
    });
  }
  for (const section of [...places.children]) if (!rows.has(section.dataset.key)) section.remove();
  shown = now;
}

function draw(item, one) {
  item.querySelector(".who span").textContent = one.name;
  item.querySelector(".organization").textContent = one.organization + (one.hearingAidRequested ? ", hearing aid" : "");
  item.querySelector("button").setAttribute("aria-checked", String(one.attends));
  if (!shown.has(one.ticket) || shown.get(one.ticket) === one.attends) return;
  item.classList.remove("changed");
  void item.offsetWidth; // begins the animation again
  item.classList.add("changed");
  const since = asked.get(one.ticket);
  const what = `${one.name} ${one.attends ? "attends" : "does not attend"}`;
  const took = since === undefined ? "changed elsewhere" : `${Math.round(performance.now() - since)} ms from the switch to this row`;
  element("took").textContent = `${what}: ${took}.`;
  asked.delete(one.ticket);
}

function drawOrganizations(rows) {
  const lines = [...rows.values()].sort((a, b) => (a.id < b.id ? -1 : 1)).map(({ id, fields }) =>
    make("tr", {}, make("td", {}, decodeURIComponent(id)),
      ...[fields.numUsers, fields.numAttending, fields.numHearingAid].map((number) => make("td", {}, String(number)))));
  element("organizations").replaceChildren(...lines);
}

const address = new URL("../ws", location.href);
address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
const live = new Live(address, state);
live.follow("MeetingRoom", drawMeetings);
live.follow("OrganizationSummary", drawOrganizations);
