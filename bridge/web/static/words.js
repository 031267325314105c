// What the bridge says in short words, in the words of people.
export const CONDITIONS = {
  error: "Error", lost: "Out of reach", paused: "Paused", printing: "Printing", ready: "Ready", off: "Not connected",
  unknown: "Never heard",
};
export const STATES = {
  disconnected: "Not connected", connecting: "Connecting", error: "Error", operational: "Ready", transferring: "Transferring",
  starting: "Starting", printing: "Printing", pausing: "Pausing", paused: "Paused", resuming: "Resuming",
  finishing: "Finishing", cancelling: "Cancelling",
};
export const SOURCES = { plugin: "Plugin", socket: "Socket", rest: "REST" };
export const SOURCE_HINTS = {
  plugin: "The MESBridge plugin delivers every event", socket: "OctoPrint's push socket, without the plugin",
  rest: "OctoPrint is asked now and then, without the plugin",
};
export const HEALTH = { good: "is told", waiting: "waits", bad: "has a problem" };
export const RESULTS = { completed: "Completed", cancelled: "Cancelled", failed: "Failed" };

export function heaterName(name) {
  const tool = /^tool(\d+)$/.exec(name);
  if (tool) return tool[1] === "0" ? "Nozzle" : `Nozzle ${Number(tool[1]) + 1}`;
  return name.charAt(0).toUpperCase() + name.slice(1);
}

const PLACES = { tool: 0, bed: 1, chamber: 2 };

// Nozzles first, as people look for them.
export function inOrder(heaters) {
  const place = (name) => PLACES[name.replace(/\d+$/, "")] ?? 3;
  return Object.keys(heaters).sort((a, b) => place(a) - place(b) || a.localeCompare(b, undefined, { numeric: true }));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "–";
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function ago(text, now) {
  const seconds = (now - Date.parse(text)) / 1000;
  return seconds < 60 ? "just now" : duration(seconds);
}

export function hour(text) {
  const moment = new Date(text);
  const today = moment.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return moment.toLocaleString([], today ? time : { weekday: "short", ...time });
}
