// Shows /state.json, once a second. Everything from there is put in as text, never as markup.
import { element, time } from "/common/texts.js";
import { drawTimeline } from "./timeline.js";

const PERIOD_MS = 1000;
const EVENT_NAMES = {
  job_started: "Job started", job_estimate_changed: "Estimate changed", job_paused: "Job paused", job_resumed: "Job resumed",
  job_finished: "Job ended", warning: "Warning", error: "Error",
};
const ENDINGS = { completed: "Job finished", cancelled: "Job cancelled", failed: "Job failed" };
const STATUSES = ["Running", "Idle", "Stopped", "Offline"];
const connection = document.getElementById("connection");
const machines = document.getElementById("machines");
const template = document.getElementById("machine");
const shown = new Map();
const known = new Map();
let mark = "";

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

function jobRow(job, plan) {
  const row = document.createElement("tr");
  const state = element("span", job.state, `mark ${job.state}`);
  if (job.reason) state.title = job.reason;
  const name = cell(job.file);
  if (plan) {
    const planned = element("div", "", "plan");
    planned.append(`is ${plan.name}, planned `, time(plan.start), " to ", time(plan.end), " ", removal(plan));
    name.append(planned);
  }
  row.append(name, cell(state), cell(time(job.started)), cell(time(job.ended)), cell(duration(job.estimated_duration)));
  return row;
}

function planRow(plan) {
  const row = document.createElement("tr");
  const name = cell(plan.name);
  name.append(" ", removal(plan));
  const length = (new Date(plan.end) - new Date(plan.start)) / 1000;
  row.append(name, cell(element("span", "planned", "mark planned")), cell(time(plan.start)), cell(time(plan.end)),
    cell(duration(length)));
  return row;
}

function removal(plan) {
  const button = element("button", "Remove", "small");
  button.type = "button";
  button.setAttribute("aria-label", `Remove ${plan.name} from the schedule`);
  button.addEventListener("click", () => send("unschedule", { number: plan.number }));
  return button;
}

function jobRows(machine) {
  const plans = new Map(machine.schedule.map((plan) => [plan.number, plan]));
  const waiting = machine.schedule.filter((plan) => plan.job === null);
  return [...waiting.map(planRow), ...machine.jobs.map((job) => jobRow(job, plans.get(job.scheduled)))];
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

async function send(what, values, problem = connection) {
  const body = new URLSearchParams({ ...values, form_secret: document.body.dataset.formSecret });
  const answer = await fetch(what, { method: "POST", body, redirect: "manual" });
  const good = answer.ok || answer.type === "opaqueredirect";
  if (good) await look();
  else problem.textContent = `Not done: ${(await answer.json()).detail}`;
  return good;
}

function add(machine) {
  const article = template.content.firstElementChild.cloneNode(true);
  article.querySelector("button").addEventListener("click", () => send("activate", { machine: machine.id }));
  machines.append(article);
  const entry = { article };
  shown.set(machine.id, entry);
  return entry;
}

function draw(machine) {
  const entry = shown.get(machine.id) ?? add(machine);
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
  const told = (value) => value && value !== "unknown";
  const make = [manufacturer, model].filter(told).join(" ");
  find(".kind").textContent = [make, location, machine.url].filter(told).join(" · ");
  find(".about").replaceChildren(...about(machine));
  find(".jobs").replaceChildren(...jobRows(machine));
  const jobs = new Map(machine.jobs.map((job) => [job.id, job]));
  find(".events").replaceChildren(...machine.events.map((event) => eventItem(event, jobs)));
}

function drawAll(state) {
  for (const machine of state.machines) known.set(machine.id, machine);
  const all = state.order.map((id) => known.get(id));
  document.getElementById("empty").hidden = all.length > 0;
  const counts = new Map();
  for (const { status } of all) counts.set(status, (counts.get(status) ?? 0) + 1);
  const summary = STATUSES.filter((status) => counts.has(status)).map((status) => `${counts.get(status)} ${status}`);
  document.getElementById("summary").textContent = summary.join(", ");
  state.machines.forEach(draw);
  document.getElementById("schedule").hidden = all.length === 0;
  drawTimeline(document.getElementById("timeline"), new Date(state.now), all, Number(span.value));
  offer(all);
  const wrong = state.misbehaviour;
  document.getElementById("misbehaving").hidden = wrong === null;
  if (wrong) document.querySelector("#misbehaving span").textContent = misbehaving(wrong);
  const present = new Set(state.order);
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

function misbehaving({ does, machine, times, lasts }) {
  const where = machine ? ` for ${machine}` : "";
  const left = [times && `${times} times more`, lasts && `${Math.ceil(lasts)} s more`].filter(Boolean);
  return `This MES misbehaves on command: it ${does}${where}, ${left.join(" or ")}.`;
}

let offered = "";

function offer(machines) {
  const now = JSON.stringify(machines.map(({ id, name }) => [id, name]));
  if (now === offered) return;  // a choice that somebody makes is not taken out of their hands
  offered = now;
  for (const select of document.querySelectorAll("select[name=machine]")) {
    const chosen = select.value;
    const all = [...select.options].filter((option) => option.value === "");
    select.replaceChildren(...all, ...machines.map(({ id, name }) => {
      const option = element("option", name);
      option.value = id;
      return option;
    }));
    if ([...select.options].some((option) => option.value === chosen)) select.value = chosen;
  }
}

function local(moment) {
  return new Date(moment - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

function onSubmit(id, what, values) {
  const form = document.querySelector(`#${id} form`);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = form.querySelector(".problem");
    problem.textContent = "";
    if (await send(what, values(Object.fromEntries(new FormData(form))), problem)) form.closest("details").open = false;
  });
}

async function look() {
  try {
    const answer = await fetch(`state.json?since=${mark}`);
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const state = await answer.json();
    drawAll(state);
    mark = state.mark;
    say("Live", true);
  } catch (error) {
    say("Not connected to the sandbox; trying again", false);
  }
}

async function follow() {
  await look();
  setTimeout(follow, PERIOD_MS);
}

const span = document.getElementById("span");
span.addEventListener("change", look);
document.querySelector("#misbehaving button").addEventListener("click", () => send("misbehave", { kind: "none" }));
document.getElementById("plan").addEventListener("toggle", ({ target }) => {
  if (!target.open) return;
  const start = new Date(Math.ceil(Date.now() / 900000) * 900000);
  target.querySelector("[name=start]").value = local(start);
  target.querySelector("[name=end]").value = local(new Date(+start + 7200000));
});
onSubmit("plan", "schedule", (form) => ({
  ...form, start: new Date(form.start).toISOString(), end: new Date(form.end).toISOString(),
}));
onSubmit("misbehave", "misbehave", (form) => form);

follow();
