// Shows /state.json, once a second. Everything from there is put in as text, never as markup.
"use strict";

const PERIOD_MS = 1000;
const TODAY = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const EARLIER = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
const EVENT_NAMES = {
  job_started: "Job started", job_paused: "Job paused", job_resumed: "Job resumed",
  job_finished: "Job ended", warning: "Warning", error: "Error",
};
const ENDINGS = { completed: "Job finished", cancelled: "Job cancelled", failed: "Job failed" };
const STATUSES = ["Running", "Idle", "Stopped", "Offline"];
const connection = document.getElementById("connection");
const machines = document.getElementById("machines");
const template = document.getElementById("machine");
const shown = new Map();

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function time(text) {
  if (!text) return element("span", "–");
  const moment = new Date(text);
  const today = moment.toDateString() === new Date().toDateString();
  const made = element("time", moment.toLocaleString([], today ? TODAY : EARLIER));
  made.dateTime = text;
  made.title = text;
  return made;
}

function duration(seconds) {
  if (seconds === null) return "–";
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return `${Math.round(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function cell(content) {
  const made = document.createElement("td");
  made.append(content);
  return made;
}

function jobRow(job) {
  const row = document.createElement("tr");
  const state = element("span", job.state, `mark ${job.state}`);
  if (job.reason) state.title = job.reason;
  row.append(cell(job.file), cell(state), cell(time(job.started)), cell(time(job.ended)),
    cell(duration(job.estimated_duration)));
  return row;
}

function eventItem(event, jobs) {
  const item = document.createElement("li");
  const what = document.createElement("div");
  const job = jobs.get(event.job);
  const ending = event.type === "job_finished" && job ? ENDINGS[job.state] : undefined;
  what.append(element("span", ending ?? EVENT_NAMES[event.type] ?? event.type, `mark ${event.severity}`));
  const about = event.text ?? job?.file;
  if (about) what.append(" ", about);
  item.append(time(event.time), what);
  return item;
}

function about(machine) {
  const facts = [["Id", machine.id], ["OctoPrint", machine.url], ["OPC UA", machine.opcua.endpoint],
    ["Node", machine.opcua.node_id]];
  for (const [name, value] of Object.entries(machine.identification)) {
    const words = name.replaceAll("_", " ");
    facts.push([words.charAt(0).toUpperCase() + words.slice(1), String(value)]);
  }
  return facts.filter(([, value]) => value !== "").map(([name, value]) => {
    const fact = document.createElement("div");
    fact.append(element("dt", name), element("dd", value));
    return fact;
  });
}

async function activate(id) {
  const body = new URLSearchParams({ machine: id, form_secret: document.body.dataset.formSecret });
  const answer = await fetch("activate", { method: "POST", body });
  if (!answer.ok) connection.textContent = "The machine could not be activated: load the page again.";
}

function add(machine) {
  const article = template.content.firstElementChild.cloneNode(true);
  article.querySelector("button").addEventListener("click", () => activate(machine.id));
  machines.append(article);
  const entry = { article, drawn: "" };
  shown.set(machine.id, entry);
  return entry;
}

function draw(machine) {
  const entry = shown.get(machine.id) ?? add(machine);
  const { lease_until: _, ...lasting } = machine;
  const now = JSON.stringify(lasting);
  if (entry.drawn === now) return;  // what nobody changed keeps its selection and scroll position
  entry.drawn = now;
  const find = (selector) => entry.article.querySelector(selector);
  entry.article.dataset.machine = machine.id;
  find("h2").textContent = machine.name;
  find(".light").className = `light ${machine.stack_light}`;
  find(".status").textContent = machine.status;
  find(".since").replaceChildren(...(machine.since ? ["since ", time(machine.since)] : []));
  find(".activation").hidden = machine.activation === "active";
  find(".activation span").textContent = `Activation: ${machine.activation}`;
  find("button").setAttribute("aria-label", `Activate ${machine.name}`);
  const { manufacturer, model, location } = machine.identification;
  const known = (value) => value && value !== "unknown";
  const make = [manufacturer, model].filter(known).join(" ");
  find(".kind").textContent = [make, location, machine.url].filter(known).join(" · ");
  find(".about").replaceChildren(...about(machine));
  find(".jobs").replaceChildren(...machine.jobs.map(jobRow));
  const jobs = new Map(machine.jobs.map((job) => [job.id, job]));
  find(".events").replaceChildren(...machine.events.map((event) => eventItem(event, jobs)));
}

function drawAll(state) {
  document.getElementById("empty").hidden = state.machines.length > 0;
  const counts = new Map();
  for (const { status } of state.machines) counts.set(status, (counts.get(status) ?? 0) + 1);
  const summary = STATUSES.filter((status) => counts.has(status)).map((status) => `${counts.get(status)} ${status}`);
  document.getElementById("summary").textContent = summary.join(", ");
  state.machines.forEach(draw);
  const present = new Set(state.machines.map((machine) => machine.id));
  for (const [id, entry] of shown) {
    if (present.has(id)) continue;
    entry.article.remove();
    shown.delete(id);
  }
}

function say(text, live) {
  if (connection.textContent !== text) connection.textContent = text;
  connection.classList.toggle("live", live);
}

async function follow() {
  try {
    const answer = await fetch("state.json");
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    drawAll(await answer.json());
    say("Live", true);
  } catch (error) {
    say("Not connected to the sandbox; trying again", false);
  }
  setTimeout(follow, PERIOD_MS);
}

follow();
