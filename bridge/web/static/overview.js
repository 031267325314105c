// The overview: what changed in /overview.json every other second. Everything from there is put in as text.
import { element, time, when } from "/common/texts.js";
import { follow, now, setClock } from "./live.js";
import { CONDITIONS, HEALTH, SOURCES, SOURCE_HINTS, ago, heaterName, hour, inOrder } from "./words.js";

const PERIOD_MS = 2000;
const TICK_MS = 15000;
const find = (id) => document.getElementById(id);
const list = find("machines");
const template = find("row");
const shown = new Map();
let mark = "";
let order = [];
const wish = new URLSearchParams(location.hash.slice(1));
let only = wish.get("show") ?? "all";

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function add(id) {
  const row = template.content.firstElementChild.cloneNode(true);
  const nodes = Object.fromEntries(
    ["name", "place", "condition", "since", "file", "progress", "why", "percent", "ends", "heaters", "tags"]
      .map((name) => [name, row.querySelector(`.${name}`)]));
  nodes.name.href = `/machine/${encodeURIComponent(id)}`;
  const entry = { row, nodes, machine: null, words: "" };
  shown.set(id, entry);
  return entry;
}

const SILENT = new Set(["lost", "off", "unknown"]);  // what was measured last is not true any more

function heaters(machine) {
  if (SILENT.has(machine.condition)) return [];
  return inOrder(machine.heaters).map((name) => {
    const [actual, target] = machine.heaters[name];
    const made = element("span", "", target ? "heater on" : "heater");
    made.append(element("b", actual === null ? "–" : `${actual}°`), element("small", target ? `→ ${target}°` : heaterName(name)));
    made.title = `${heaterName(name)}: ${actual === null ? "unknown" : `${actual} °C`}, ${target ? `target ${target} °C` : "off"}`;
    return made;
  });
}

function tags(machine) {
  const made = [];
  const source = element("span", machine.source ? SOURCES[machine.source] : "–", "tag");
  source.title = machine.source ? SOURCE_HINTS[machine.source] : "Nothing tells of this machine yet";
  made.push(source);
  for (const [mes, health] of Object.entries(machine.mes)) {
    const tag = element("span", `MES ${mes}`, `tag ${health}`);
    tag.title = `MES ${mes} ${HEALTH[health]}`;
    if (health !== "good") tag.append(element("span", ` ${HEALTH[health]}`, "unseen"));
    made.push(tag);
  }
  return made;
}

function draw(machine) {
  const entry = shown.get(machine.id) ?? add(machine.id);
  const { row, nodes } = entry;
  const job = machine.job;
  const active = job !== null && job.result === null;
  row.className = `machine ${machine.condition} need${machine.attention}`;
  set(nodes.name, machine.name);
  set(nodes.place, machine.place);
  set(nodes.condition, CONDITIONS[machine.condition]);
  set(nodes.file, job ? (active ? job.file : `${job.file} ${job.result}`) : "");
  nodes.file.classList.toggle("past", !active);
  nodes.file.title = job?.file ?? "";
  nodes.progress.hidden = !active;
  nodes.progress.firstElementChild.style.width = `${active ? job.completion ?? 0 : 0}%`;
  set(nodes.percent, active && job.completion !== null ? `${job.completion} %` : "");
  set(nodes.ends, active && job.ends ? `until ${hour(job.ends)}` : "");
  set(nodes.why, machine.why ?? "");
  const warm = JSON.stringify([machine.heaters, SILENT.has(machine.condition)]);
  if (entry.warm !== warm) nodes.heaters.replaceChildren(...heaters(machine));
  const told = JSON.stringify([machine.source, machine.mes]);
  if (entry.told !== told) nodes.tags.replaceChildren(...tags(machine));
  Object.assign(entry, {
    machine, warm, told,
    words: [machine.name, machine.place, job?.file, machine.why, CONDITIONS[machine.condition], machine.id].join("\n").toLowerCase(),
  });
  tick(entry);
}

function tick({ machine, nodes }) {
  set(nodes.since, machine.since ? ago(machine.since, now()) : "");
}

const byName = (a, b) => a.machine.name.localeCompare(b.machine.name, undefined, { numeric: true });
const end = ({ machine }) => (machine.job?.result === null && machine.job.ends ? Date.parse(machine.job.ends) : Infinity);
const SORTS = {
  attention: (a, b) => b.machine.attention - a.machine.attention || byName(a, b),
  ends: (a, b) => (end(a) === end(b) ? byName(a, b) : end(a) - end(b)),
  name: byName,
};

function matches({ machine, words }) {
  const wanted = find("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const kind = only === "all" || (only === "attention" ? machine.attention > 0 : machine.condition === only);
  return kind && wanted.every((word) => words.includes(word));
}

function arrange() {
  const all = order.map((id) => shown.get(id)).filter(Boolean);
  const wanted = all.filter(matches).sort(SORTS[find("sort").value]);
  let place = list.firstElementChild;
  for (const { row } of wanted) {
    if (row === place) place = place.nextElementSibling;
    else list.insertBefore(row, place);
  }
  while (place) {
    const next = place.nextElementSibling;
    place.remove();
    place = next;
  }
  count(all);
  set(find("count"), `${wanted.length} of ${all.length} machines shown`);
  find("empty").hidden = wanted.length > 0;
  set(find("empty"), all.length ? "No machine matches." : "No machine is served yet. Pair an OctoPrint with mesbridge pair open, or add it to config.json.");
}

function count(all) {
  const counts = new Map([["all", all.length], ["attention", 0]]);
  for (const { machine } of all) {
    counts.set(machine.condition, (counts.get(machine.condition) ?? 0) + 1);
    if (machine.attention > 0) counts.set("attention", counts.get("attention") + 1);
  }
  const names = { all: "All", attention: "Needs attention", ...CONDITIONS };
  const chips = find("chips");
  for (const [kind, name] of Object.entries(names)) {
    const number = counts.get(kind) ?? 0;
    let chip = chips.querySelector(`[value="${kind}"]`);
    if (!chip) {
      chip = element("button", "", `chip ${kind}`);
      chip.type = "button";
      chip.value = kind;
      chip.append(element("span", name), " ", element("b", ""));
      chip.addEventListener("click", () => choose(only === kind ? "all" : kind));
      chips.append(chip);
    }
    set(chip.querySelector("b"), String(number));
    chip.hidden = number === 0 && kind !== "all" && kind !== only;
    chip.setAttribute("aria-pressed", String(kind === only));
  }
  const bar = find("bar");
  if (!bar.children.length) bar.append(...Object.keys(CONDITIONS).map((kind) => element("i", "", kind)));
  for (const part of bar.children) part.style.flexGrow = counts.get(part.className) ?? 0;
  const need = counts.get("attention");
  document.title = need ? `(${need}) MESBridge` : "MESBridge";
}

function choose(kind) {
  only = kind;
  remember();
  arrange();
}

function remember() {
  const kept = new URLSearchParams();
  if (only !== "all") kept.set("show", only);
  if (find("search").value) kept.set("q", find("search").value);
  if (find("sort").value !== "attention") kept.set("sort", find("sort").value);
  sessionStorage.setItem("overview", kept.toString());
  history.replaceState(null, "", `${location.pathname}${kept.size ? `#${kept}` : ""}`);
}

function health(fleet) {
  set(find("bridge"), `${fleet.bridge} · ${fleet.version}`);
  find("logout").hidden = !fleet.login;
  const made = [element("dt", "OPC UA"), element("dd", fleet.opcua.endpoint)];
  const clients = fleet.opcua.sessions;
  made[1].append(element("small", clients === 1 ? "1 client" : `${clients} clients`));
  for (const mes of fleet.mes) {
    const state = element("dd", mes.trouble ? "Cannot be told" : "Is told", mes.trouble ? "bad" : "good");
    if (mes.trouble_since) state.append(" since ", time(mes.trouble_since));
    const waits = [mes.waiting ? `${mes.waiting} waiting` : "", mes.refused ? `${mes.refused} refused` : ""].filter(Boolean);
    state.append(element("small", [mes.url, ...waits].filter(Boolean).join(" · ")));
    made.push(element("dt", mes.mes === null ? "MES" : `MES ${mes.mes}`), state);
  }
  if (!fleet.mes.length) made.push(element("dt", "MES"), element("dd", "None in the settings"));
  find("health").replaceChildren(...made);
  find("trouble").replaceChildren(...fleet.mes.filter((mes) => mes.trouble).map((mes) =>
    element("li", `${mes.mes === null ? "The MES side" : `MES ${mes.mes}`} cannot be told: ${mes.trouble}`)));
}

function grade(severity) {
  return severity >= 900 ? "bad" : severity >= 300 ? "attention" : "";
}

function notices(all) {
  find("notices").replaceChildren(...all.map((one) => {
    const item = element("li", "", grade(one.severity));
    const who = element("a", one.name);
    who.href = `/machine/${encodeURIComponent(one.machine)}`;
    const said = element("div", "");
    said.append(who, " ", element("span", one.text));
    item.append(when(one.time), said);
    return item;
  }));
}

function show(news) {
  mark = news.mark;
  setClock(news.now);
  if (news.order) {
    order = news.order;
    const known = new Set(order);
    for (const id of shown.keys()) if (!known.has(id)) shown.delete(id);
  }
  news.machines.forEach(draw);
  if (news.fleet) health(news.fleet);
  if (news.notices) notices(news.notices);
  if (news.machines.length || news.order) arrange();
}

find("search").value = wish.get("q") ?? "";
find("sort").value = wish.get("sort") ?? "attention";
find("search").addEventListener("input", () => { remember(); arrange(); });
find("sort").addEventListener("change", () => { remember(); arrange(); });
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    find("search").focus();
  } else if (event.key === "Escape" && event.target === find("search")) {
    find("search").value = "";
    remember();
    arrange();
  }
});
setInterval(() => shown.forEach(tick), TICK_MS);
follow(() => `/overview.json?since=${encodeURIComponent(mark)}`, show, PERIOD_MS);
