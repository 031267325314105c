// One row for each machine: what was planned above, what was printed below, from the past into the future.
import { clock, element } from "/common/texts.js";

const SVG = "http://www.w3.org/2000/svg";
const HOUR_MS = 3600000;
const PAST = 2 / 3;  // of the time that is shown
const STEPS_H = [1, 2, 3, 6, 12, 24];
const TICK_PX = 80;
const ROW = 48;
const PLANNED = { y: 2, height: 17 };
const ACTUAL = { y: 20, height: 25 };

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

class Scale {
  constructor(now, hours, width) {
    this.now = now;
    this.most = Math.max(2, width / TICK_PX);
    this.start = now - hours * HOUR_MS * PAST;
    this.end = this.start + hours * HOUR_MS;
    this.hours = hours;
  }

  percent(moment) {
    return (100 * (moment - this.start)) / (this.end - this.start);
  }

  shows(start, end) {
    return end > this.start && start < this.end;
  }

  ticks() {
    const step = STEPS_H.find((hours) => this.hours / hours <= this.most) ?? 24;
    const tick = new Date(this.start);
    tick.setHours(Math.ceil((tick.getHours() + 1) / step) * step, 0, 0, 0);
    const found = [];
    for (; tick < this.end; tick.setHours(tick.getHours() + step)) found.push(new Date(tick));
    return found;
  }
}

function label(moment) {
  const midnight = moment.getHours() === 0;
  return moment.toLocaleString([], midnight ? { weekday: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

function bar(scale, place, start, end, className, name, said, ...under) {
  const left = Math.max(0, scale.percent(start));
  const width = Math.max(0.3, Math.min(100, scale.percent(end)) - left);
  return svg("svg", { x: `${left}%`, y: place.y, width: `${width}%`, height: place.height, role: "img", "aria-label": said },
    Object.assign(svg("title", {}), { textContent: said }),
    svg("rect", { class: `bar ${className}`, x: 1, y: 1, width: "100%", height: place.height - 2, rx: 3 }),
    ...under,
    Object.assign(svg("text", { x: 6, y: place.height / 2, class: `name ${className}` }), { textContent: name }));
}

function expectedEnd(job, now) {
  if (job.ended) return +new Date(job.ended);
  const end = job.estimated_duration === null ? now : +new Date(job.started) + job.estimated_duration * 1000;
  return Math.max(now, end);
}

function planBars(machine, scale) {
  return machine.schedule.filter((plan) => scale.shows(+new Date(plan.start), +new Date(plan.end))).map((plan) =>
    bar(scale, PLANNED, +new Date(plan.start), +new Date(plan.end), plan.job ? "planned met" : "planned", plan.name,
      `${plan.name}: planned ${clock(plan.start)} to ${clock(plan.end)}${plan.job ? ", printed" : ""}`));
}

function jobBars(machine, scale) {
  const plans = new Map(machine.schedule.map((plan) => [plan.number, plan]));
  return machine.jobs.flatMap((job) => {
    const start = +new Date(job.started);
    const end = expectedEnd(job, scale.now);
    if (!scale.shows(start, end)) return [];
    const plan = plans.get(job.scheduled);
    const until = job.ended ? `${clock(job.started)} to ${clock(job.ended)}`
      : `since ${clock(job.started)}, expected until ${clock(new Date(end))}`;
    const said = `${job.file}: ${job.state}, ${until}${plan ? `; is ${plan.name} of the schedule` : ""}`;
    return [bar(scale, ACTUAL, start, end, job.state, job.file, said, ...expected(job, scale, start, end))];
  });
}

function expected(job, scale, start, end) {
  if (job.ended || end <= scale.now) return [];
  const from = Math.max(start, scale.start);
  const done = (100 * (scale.now - from)) / (Math.min(end, scale.end) - from);
  return [svg("rect", { class: "expected", x: `${done}%`, y: 2, width: "100%", height: ACTUAL.height - 4 })];
}

function lines(scale) {
  const at = (moment, name) => svg("line", {
    class: name, x1: `${scale.percent(moment)}%`, x2: `${scale.percent(moment)}%`, y1: 0, y2: "100%",
  });
  return { ticks: scale.ticks().map((tick) => at(tick, "tick")), now: at(scale.now, "now") };
}

function axis(scale) {
  const texts = scale.ticks().filter((tick) => scale.percent(tick) < 96).map((tick) =>
    Object.assign(svg("text", { x: `${scale.percent(tick)}%`, y: 14, class: "hour" }), { textContent: label(tick) }));
  const row = element("div", "", "row axis");
  row.append(element("span", ""), svg("svg", { height: 20, width: "100%", "aria-hidden": "true" }, ...texts));
  return row;
}

function machineRow(machine, scale) {
  const { ticks, now } = lines(scale);
  const name = element("span", "", "machine");
  name.append(element("span", "", `light ${machine.stack_light}`), element("strong", machine.name), ` ${machine.status}`);
  const row = element("div", "", "row");
  row.append(name, svg("svg", { height: ROW, width: "100%", role: "group", "aria-label": `Jobs of ${machine.name}` },
    ...ticks, ...planBars(machine, scale), ...jobBars(machine, scale), now));
  return row;
}

let drawn = "";
const rows = new WeakMap();

export function drawTimeline(place, now, machines, hours) {
  const minute = Math.floor(now / 60000) * 60000;
  const scale = new Scale(+now, hours, place.querySelector("svg")?.clientWidth ?? place.clientWidth * 0.8);
  const frame = JSON.stringify([minute, hours, place.clientWidth]);
  if (frame !== drawn) place.replaceChildren(axis(scale));
  machines.forEach((machine, index) => {
    const old = place.children[index + 1];
    if (old && rows.get(old) === machine) return;  // the same answer of the MES
    const row = machineRow(machine, scale);
    rows.set(row, machine);
    if (old) old.replaceWith(row);
    else place.append(row);
  });
  while (place.children.length > machines.length + 1) place.lastChild.remove();
  drawn = frame;
}
