// Asks the bridge again and again, says whether what is shown is live, and goes on by itself after an outage.
const HIDDEN_MS = 30000;
const WITHIN_MS = 15000;
const LATE = 3;

const connection = document.getElementById("connection");
let offset = 0;
let heard = null;

export const now = () => Date.now() + offset;

export function setClock(text) {
  const measured = Date.parse(text) - Date.now();
  if (Math.abs(measured - offset) > 1500) offset = measured;
}

function say(live) {
  document.body.classList.toggle("stale", !live);
  connection.className = live ? "live" : "dead";
  const words = live ? "Live"
    : `Not live${heard ? `: as of ${heard.toLocaleTimeString()}` : ""}. The bridge does not answer, trying again…`;
  if (connection.textContent !== words) connection.textContent = words;
}

export function follow(address, show, period) {
  let timer = 0;
  let running = false;
  let failures = 0;

  async function look() {
    clearTimeout(timer);
    if (running) return;
    running = true;
    try {
      const answer = await fetch(address(), { cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS) });
      if (answer.status === 401) {
        location.assign(`/login?to=${encodeURIComponent(location.pathname)}`);
        return;
      }
      if (!answer.ok) throw new Error(`${answer.status}`);
      show(await answer.json());
      heard = new Date();
      failures = 0;
      say(true);
    } catch (error) {
      if (!(error instanceof TypeError) && !(error instanceof DOMException)) console.warn(error);
      failures += 1;
      say(false);
    }
    running = false;
    const pace = failures ? Math.min(period * 2 ** Math.min(failures, LATE), 10000) : period;
    timer = setTimeout(look, document.hidden ? HIDDEN_MS : pace);
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  addEventListener("online", look);
  look();
  return look;
}
