// One machine: its present from now.json every other second, its last day from day.json every half minute.
import { clock, element, time, when } from "/common/texts.js";
import { DayPicture, legend } from "./day.js";
import { follow, now, setClock } from "./live.js";
import { CONDITIONS, RESULTS, SOURCES, SOURCE_HINTS, STATES, ago, duration, heaterName, hour, inOrder } from "./words.js";

const PERIOD_MS = 2000;
const DAY_MS = 30000;
const base = location.pathname;
const find = (selector) => document.querySelector(selector);
const picture = new DayPicture(find("#timeline"));
let latest = "";

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function facts(pairs) {
  return pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value, className]) => {
    const said = element("dd", "", className);
    said.append(value);
    return [element("dt", name), said];
  });
}

function replace(selector, made) {
  const place = find(selector);
  const same = place.children.length === made.length && made.every((node, index) => node.isEqualNode(place.children[index]));
  if (!same) place.replaceChildren(...made);
}

function drawJob(machine) {
  const job = machine.job;
  set(find("#now .file"), job ? job.file : "No job yet");
  const active = job !== null && job.result === null;
  find("#now .progress").hidden = !active;
  find("#now .progress i").style.width = `${active ? job.completion ?? 0 : 0}%`;
  if (!job) return replace("#now .facts", []);
  const left = active && job.ends ? (Date.parse(job.ends) - now()) / 1000 : null;
  const layer = job.layer ? `${job.layer}${job.layers ? ` of ${job.layers}` : ""}` : null;
  replace("#now .facts", facts([
    ["Progress", active && job.completion !== null ? `${job.completion.toFixed(1)} %` : null],
    ["Layer", layer],
    ["Done", left === null ? null : left > 0 ? `in ${duration(left)}, ${hour(job.ends)}` : "any moment"],
    ["Result", job.result ? RESULTS[job.result] : null, job.result],
    ["Reason", job.reason],
    ["Started", time(job.started)],
    ["Ended", job.ended ? time(job.ended) : null],
    ["Printing time", job.print_time === null ? null : duration(job.print_time)],
    ["File", [job.origin, job.path].filter(Boolean).join(": ")],
  ]));
}

function drawHeaters(machine) {
  const made = inOrder(machine.heaters).map((name, index) => {
    const [actual, target] = machine.heaters[name];
    const line = element("div", "", `c${index % 4}`);
    const value = element("dd", actual === null ? "–" : `${actual.toFixed(1)} °C`);
    value.append(element("small", target ? `→ ${target.toFixed(0)} °C` : "off"));
    line.append(element("dt", heaterName(name)), value);
    return line;
  });
  replace("#heat", made.length ? made : [element("div", "Nothing known", "faint")]);
}

const TOLD = { Running: "Running", Idle: "Idle", Stopped: "Stopped", Offline: "Offline" };

function atMes(mes) {
  const said = [mes.trouble ? "cannot be told" : mes.status ? `shows ${TOLD[mes.status] ?? mes.status}` : "has not answered yet"];
  if (mes.activation && mes.activation !== "active") said.push(`activation: ${mes.activation}`);
  if (mes.waiting) said.push(`${mes.waiting} waiting`);
  if (mes.refused) said.push(`${mes.refused} refused`);
  if (mes.held) said.push(mes.held);
  return [`MES ${mes.mes}`, said.join(", "), mes.health];
}

function drawConnections(machine) {
  const link = element("a", machine.url);
  if (/^https?:/i.test(machine.url)) link.href = machine.url;
  link.rel = "noreferrer";
  const source = machine.source ? SOURCES[machine.source] : "nothing tells of it yet";
  const octoprint = machine.octoprint;
  replace("#connections", facts([
    ["OctoPrint", link],
    ["Version", octoprint ? [octoprint.version, octoprint.plugin ? `plugin ${octoprint.plugin}` : ""].filter(Boolean).join(", ") : null],
    ["Source", source],
    ["Heard", machine.heard ? time(machine.heard) : "never"],
    ["OPC UA", machine.opcua.endpoint],
    ["Node", machine.opcua.node_id],
    ...machine.mes.map(atMes),
    ["MES", machine.mes.length ? null : "is not told of this machine"],
  ]));
  find("#connections").title = machine.source ? SOURCE_HINTS[machine.source] : "";
}

function drawAbout(machine) {
  const words = Object.entries(machine.identification).map(([name, value]) => {
    const said = name.replaceAll("_", " ");
    return [said.charAt(0).toUpperCase() + said.slice(1), value];
  });
  const { counters } = machine;
  replace("#about", facts([
    ["Id", machine.id], ...words,
    ["Firmware", machine.octoprint?.firmware],
    ...Object.entries(machine.spools).map(([tool, spool]) => [`Spool, ${heaterName(tool).toLowerCase()}`, spool]),
    ["Jobs", `${counters.jobs_completed} completed, ${counters.jobs_cancelled} cancelled, ${counters.jobs_failed} failed`],
    ["Printed", duration(counters.printing)],
  ]));
}

function drawJobs(machine) {
  replace("#jobs", machine.finished.map((job) => {
    const row = element("tr", "");
    const result = element("td", RESULTS[job.result] ?? job.state, job.result);
    if (job.reason) result.title = job.reason;
    const started = element("td", "");
    started.append(when(job.started));
    const took = (Date.parse(job.ended) - Date.parse(job.started)) / 1000;
    row.append(element("td", job.file), result, started, element("td", duration(took)));
    return row;
  }));
}

function drawNotices(all) {
  replace("#notices", all.map((one) => {
    const item = element("li", "", one.severity >= 900 ? "bad" : one.severity >= 300 ? "attention" : "");
    item.append(when(one.time), element("span", one.text));
    return item;
  }));
}

function show(news) {
  setClock(news.now);
  const { machine } = news;
  const main = find("main");
  main.hidden = false;
  main.className = `one ${machine.condition} need${machine.attention}`;
  document.title = `${machine.name} · MESBridge`;
  set(find("#bridge"), news.bridge);
  set(find("h1"), machine.name);
  set(find(".title .place"), machine.place);
  const exact = machine.condition === "lost" ? CONDITIONS.lost : STATES[machine.state];
  set(find(".title .condition"), machine.condition === "unknown" ? CONDITIONS.unknown : exact ?? machine.state);
  set(find(".title .since"), machine.since ? `since ${clock(machine.since)} (${ago(machine.since, now())})` : "");
  set(find(".one > .why"), machine.why ?? "");
  drawJob(machine);
  drawHeaters(machine);
  drawConnections(machine);
  drawAbout(machine);
  drawJobs(machine);
  drawNotices(news.notices);
  const key = JSON.stringify([machine.state, machine.link, machine.job?.started, machine.job?.result]);
  if (latest && latest !== key) lookAtDay();
  latest = key;
}

for (const button of document.querySelectorAll("#spans button")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("#spans button")) other.setAttribute("aria-pressed", String(other === button));
    picture.span(Number(button.value));
  });
}
find("#legend").replaceChildren(...legend());
find("#back").href = `/#${sessionStorage.getItem("overview") ?? ""}`;
const lookAtDay = follow(() => `${base}/day.json`, (day) => picture.show(day), DAY_MS);
follow(() => `${base}/now.json`, show, PERIOD_MS);
