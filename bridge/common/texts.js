// Texts and times as people read them, put in as text, never as markup.
const TODAY = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const EARLIER = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };

export function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function clock(text) {
  const moment = new Date(text);
  const today = moment.toDateString() === new Date().toDateString();
  return moment.toLocaleString([], today ? TODAY : EARLIER);
}

// As short as can be: the hour of today, or the day and the hour.
export function when(text) {
  const moment = new Date(text);
  const day = moment.toDateString() === new Date().toDateString() ? {} : { weekday: "short" };
  const made = element("time", moment.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit", hourCycle: "h23" }));
  made.dateTime = text;
  made.title = moment.toLocaleString();
  return made;
}

export function time(text) {
  if (!text) return element("span", "–");
  const made = element("time", clock(text));
  made.dateTime = text;
  made.title = text;
  return made;
}
