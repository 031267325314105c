// The last day of one machine as a picture: states, jobs and temperatures over one axis. In: /machine/…/day.json.
import { element } from "/common/texts.js";
import { RESULTS, STATES, heaterName, inOrder } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const STATE_ROW = { y: 4, height: 14 };
const JOB_ROW = { y: 24, height: 20 };
const CURVES = { y: 58, height: 190 };
const AXIS = CURVES.y + CURVES.height;
const HEIGHT = AXIS + 20;
const LEFT = 34;
const STEPS_MIN = [5, 10, 15, 30, 60, 120, 180, 240, 360];
const TICK_PX = 80;
const KINDS = {
  error: "error", paused: "paused", pausing: "paused", operational: "ready", transferring: "ready",
  disconnected: "off", connecting: "off",
};

export const kindOf = (state) => KINDS[state] ?? "printing";

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function text(content, attributes) {
  const made = svg("text", attributes);
  made.textContent = content;
  return made;
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// At most two points for each pixel, the least and the greatest value; null where nothing was heard.
export function downsample(values, most) {
  const step = Math.max(1, Math.ceil((values.length / most) * 2));
  if (step <= 2) return values.map((value, index) => [index, value]);
  const points = [];
  for (let start = 0; start < values.length; start += step) {
    let low = null;
    let high = null;
    for (let i = start; i < Math.min(start + step, values.length); i += 1) {
      if (values[i] === null) continue;
      if (low === null || values[i] < values[low]) low = i;
      if (high === null || values[i] > values[high]) high = i;
    }
    if (low === null) points.push([start, null]);
    else if (low === high) points.push([low, values[low]]);
    else points.push(...[low, high].sort((a, b) => a - b).map((i) => [i, values[i]]));
  }
  return points;
}

export class DayPicture {
  constructor(place) {
    this.place = place;
    this.hours = 24;
    this.reading = element("div", "", "reading");
    this.reading.hidden = true;
    place.tabIndex = 0;
    place.setAttribute("role", "img");
    place.addEventListener("pointermove", (event) => this.point(event.clientX - place.getBoundingClientRect().left));
    place.addEventListener("pointerdown", (event) => this.point(event.clientX - place.getBoundingClientRect().left));
    place.addEventListener("pointerleave", () => this.leave());
    place.addEventListener("blur", () => this.leave());
    place.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(place);
  }

  show(day) {
    this.day = day;
    this.draw();
  }

  span(hours) {
    this.hours = hours;
    this.draw();
  }

  x(seconds) {
    return LEFT + ((seconds - this.start) / (this.end - this.start)) * (this.width - LEFT);
  }

  draw() {
    const width = this.place.clientWidth;
    if (!this.day || !width) return;
    this.width = width;
    this.end = this.day.now;
    this.start = this.end - this.hours * 3600;
    const values = Object.values(this.day.heaters).flatMap(({ actual, target }) => [...this.cut(actual), ...this.cut(target)]);
    this.top = Math.max(50, Math.ceil(Math.max(0, ...values.filter((one) => one !== null)) / 50) * 50);
    this.cursor = svg("line", { class: "cursor", y1: 0, y2: AXIS, visibility: "hidden" });
    const hatch = svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse" }, svg("path", { d: "M0 6 L6 0" }));
    const picture = svg("svg", { height: HEIGHT, "aria-hidden": "true" }, svg("defs", {}, hatch),
      ...this.grid(), ...this.states(), ...this.jobs(), ...this.gaps(), ...this.curves(), this.cursor);
    this.place.replaceChildren(picture, this.reading);
    this.place.setAttribute("aria-label", this.said());
    this.leave();
  }

  cut(values) {
    return values.slice(-this.hours * 60);
  }

  // What is left of `from` and `to` in the time that is shown, in pixels; null when nothing is.
  extent(from, to) {
    if (to <= this.start || from >= this.end) return null;
    const x = this.x(Math.max(from, this.start));
    return { x, width: Math.max(1, this.x(Math.min(to, this.end)) - x) };
  }

  grid() {
    const made = [];
    for (let degrees = 0; degrees <= this.top; degrees += this.top > 150 ? 100 : 50) {
      const y = this.y(degrees);
      made.push(svg("line", { class: "tick", x1: LEFT, x2: this.width, y1: y, y2: y }),
        text(`${degrees}°`, { x: LEFT - 6, y: y + 4, "text-anchor": "end" }));
    }
    const step = STEPS_MIN.find((minutes) => ((this.width - LEFT) * minutes) / (this.hours * 60) >= TICK_PX) ?? 720;
    const tick = new Date(this.start * 1000);
    tick.setMinutes(0, 0, 0);
    if (step > 60) tick.setHours(0);
    for (; tick / 1000 < this.end; tick.setMinutes(tick.getMinutes() + step)) {
      if (tick / 1000 < this.start) continue;
      const x = this.x(tick / 1000);
      made.push(svg("line", { class: "tick", x1: x, x2: x, y1: 0, y2: AXIS }));
      if (x < this.width - 30) made.push(text(clock(tick / 1000), { x, y: AXIS + 15, "text-anchor": x < LEFT + 20 ? "start" : "middle" }));
    }
    return made;
  }

  y(degrees) {
    return AXIS - (Math.max(0, degrees) / this.top) * CURVES.height;
  }

  states() {
    return this.day.states.flatMap(([from, to, state]) => {
      const place = this.extent(from, to);
      return place ? [svg("rect", { class: `s-${kindOf(state)}`, ...STATE_ROW, ...place })] : [];
    });
  }

  jobs() {
    return this.day.jobs.flatMap((job) => {
      const place = this.extent(job.started, job.ended ?? this.day.now);
      if (!place) return [];
      const bar = svg("rect", { class: `jobbar ${job.result ?? ""}`, rx: 3, ...JOB_ROW, ...place });
      const room = Math.floor((place.width - 10) / 6.2);
      const name = job.file.length > room ? `${job.file.slice(0, room - 1)}…` : job.file;
      return room < 4 ? [bar] : [bar, text(name, { class: "inside", x: place.x + 5, y: JOB_ROW.y + 14 })];
    });
  }

  gaps() {
    return this.day.unheard.flatMap(([from, to]) => {
      const place = this.extent(from, to);
      return place && place.width >= 2 ? [svg("rect", { class: "gap", y: 0, height: AXIS, ...place })] : [];
    });
  }

  curves() {
    return inOrder(this.day.heaters).flatMap((name, index) => {
      const { actual, target } = this.day.heaters[name];
      return [
        svg("path", { class: `curve target c${index % 4}`, d: this.path(target.map((value) => value || null)) }),
        svg("path", { class: `curve c${index % 4}`, d: this.path(actual) }),
      ];
    });
  }

  path(values) {
    const shown = this.cut(values);
    const first = this.day.until - (shown.length - 1) * 60;
    let drawing = false;
    return downsample(shown, this.width - LEFT).map(([index, value]) => {
      const x = this.x(Math.min(this.end, first + index * 60 + 30));
      if (value === null || x < LEFT) {
        drawing = false;
        return "";
      }
      const step = `${drawing ? "L" : "M"}${x.toFixed(1)} ${this.y(value).toFixed(1)}`;
      const alone = drawing ? "" : "h.1";
      drawing = true;
      return step + alone;
    }).join("");
  }

  said() {
    const ended = this.day.jobs.filter((job) => job.result);
    const counts = Object.entries(RESULTS).map(([result, name]) => [ended.filter((job) => job.result === result).length, name])
      .filter(([count]) => count).map(([count, name]) => `${count} ${name.toLowerCase()}`);
    return `States, jobs and temperatures of the last ${this.hours} hours. Jobs: ${counts.join(", ") || "none ended"}. `
      + "Arrow keys read the values.";
  }

  point(x) {
    if (!this.day || x < LEFT) return;
    this.read(this.start + ((x - LEFT) / (this.width - LEFT)) * (this.end - this.start));
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.leave();
    if (!step) return;
    event.preventDefault();
    this.read(Math.min(this.end, Math.max(this.start, (this.at ?? this.end) + (step * this.hours * 3600) / 96)));
  }

  read(moment) {
    this.at = moment;
    const x = this.x(moment);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.cursor.setAttribute("visibility", "visible");
    const lines = [element("strong", clock(moment))];
    const within = ([from, to]) => moment >= from && moment < to;
    const state = this.day.states.findLast(within);
    if (state) lines.push(element("div", STATES[state[2]] ?? state[2]));
    if (this.day.unheard.some(within)) lines.push(element("div", "Nothing heard"));
    const job = this.day.jobs.findLast((one) => moment >= one.started && moment < (one.ended ?? Infinity));
    if (job) lines.push(element("div", job.file));
    const back = Math.round((this.day.until + 30 - moment) / 60);
    for (const [index, name] of inOrder(this.day.heaters).entries()) {
      const { actual, target } = this.day.heaters[name];
      const value = actual.at(-1 - back);
      if (value === null || value === undefined) continue;
      const line = element("div", "", `c${index % 4}`);
      const aim = target.at(-1 - back);
      line.append(element("i", ""), `${heaterName(name)} ${value.toFixed(1)} °C${aim ? ` → ${aim.toFixed(0)} °C` : ""}`);
      lines.push(line);
    }
    this.reading.replaceChildren(...lines);
    this.reading.hidden = false;
    const left = x + 12 + this.reading.offsetWidth < this.width ? x + 12 : x - 12 - this.reading.offsetWidth;
    this.reading.style.left = `${Math.max(0, left)}px`;
    if (document.activeElement === this.place) this.place.setAttribute("aria-description", lines.map((line) => line.textContent).join(", "));
  }

  leave() {
    this.reading.hidden = true;
    this.at = null;
    this.cursor?.setAttribute("visibility", "hidden");
  }
}

export function legend() {
  const parts = [["s-printing", "printing"], ["s-paused", "paused"], ["s-error", "error"], ["s-ready", "ready"], ["s-off", "not connected"], ["gap", "nothing heard"]];
  return parts.map(([name, words]) => {
    const item = element("li", "");
    const box = svg("svg", { "aria-hidden": "true" }, svg("rect", { class: name, width: "100%", height: "100%", rx: 2 }));
    item.append(box, words);
    return item;
  });
}
