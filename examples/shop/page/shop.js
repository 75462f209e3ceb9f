// What the page shows live. Without this script all else works.
"use strict";

const one = (selector) => document.querySelector(selector);
const say = (selector, text) => { const e = one(selector); if (e) e.textContent = text; };

// A form is sent once; the page comes back with its buttons enabled.
document.addEventListener("submit", (e) => {
  for (const button of e.target.querySelectorAll("button")) setTimeout(() => { button.disabled = true; });
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button:disabled")) button.disabled = false;
});

// Who is logged in, and what the limits leave: the latter is in the answer's header,
// and asking does not count.
async function status() {
  let answer;
  try {
    answer = await fetch("/status", { headers: { Accept: "application/json" } });
  } catch {
    return; // the next one will tell
  }
  const left = answer.headers.get("X-RateLimit-Remaining");
  if (left !== null) {
    say("[data-left]", left);
    say("[data-left-of]", "of " + answer.headers.get("X-RateLimit-Limit") + " a minute");
  }
  if (!answer.ok) return;
  const { User, Session } = await answer.json();
  say("[data-who]", User);
  say("[data-session]", Session ? Session.slice(0, 6) : "none");
  const alert = one("[data-alert]");
  if (document.body.dataset.user && !User) {
    alert.textContent = "You have been logged out.";
    alert.hidden = false;
  }
}
status();
setInterval(() => { if (!document.hidden) status(); }, 5000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) status(); });

const panel = one("[data-live]");
if (panel) live();

function live() {
  const shown = 8;
  const instances = new Map(); // name: {counts, heard}

  const line = (topic, order, fresh) => {
    const item = document.createElement("li");
    const tag = document.createElement("span");
    const details = document.createElement("small");
    const verb = topic.slice("order.".length);
    item.className = fresh ? "new" : "";
    tag.className = "tag " + verb;
    tag.textContent = verb;
    details.textContent = `${order.Order} · ${order.Total}`;
    item.append(tag, ` ${order.Quantity} × ${order.Item} `, details);
    return item;
  };

  const hear = (e) => {
    const list = one("[data-heard]");
    list.prepend(line(e.type, JSON.parse(e.data), true));
    while (list.children.length > shown) list.lastElementChild.remove();
    one("[data-empty]").hidden = true;
    clearTimeout(hear.timer);
    hear.timer = setTimeout(status, 300);
  };

  // Something may have been missed: the list is as the server has it.
  const reload = async () => {
    try {
      const answer = await fetch("/", { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      const { Heard } = await answer.json();
      one("[data-heard]").replaceChildren(...Heard.map((h) => line(h.Topic, h, false)));
    } catch {
      // the next event will be shown all the same
    }
  };

  const count = (e) => {
    const counts = JSON.parse(e.data);
    instances.set(counts.Instance, { counts, heard: Date.now() });
    draw();
  };

  const draw = () => {
    const sums = { Hits: 0, Misses: 0, Pages: 0, Made: 0, Payments: 0 };
    const locks = [];
    for (const [name, { counts, heard }] of instances) {
      if (Date.now() - heard > 15000) { // it tells every five seconds
        instances.delete(name);
        continue;
      }
      for (const field in sums) sums[field] += counts[field];
      locks.push(...(counts.Locks || []));
    }
    for (const field in sums) say(`[data-count=${field}]`, sums[field]);
    say("[data-locks]", locks.length);
    say("[data-lock-names]", locks.length ? locks.join(" ") : `of ${sums.Payments} so far`);
    say("[data-instances]", [...instances.keys()].sort().join(", "));
  };
  setInterval(() => { if (instances.size) draw(); }, 5000);

  const events = new EventSource("/events");
  events.onopen = () => say("[data-link]", "connected");
  events.onerror = () => say("[data-link]", "reconnecting");
  for (const topic of ["order.created", "order.paid", "order.confirmed"]) events.addEventListener(topic, hear);
  events.addEventListener("order.counts", count);
  events.addEventListener("resync", reload);
}
