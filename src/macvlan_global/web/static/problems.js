// Problems: conflicts, what status and doctor say on all hosts, each with its next step, and what came and went.

import { onChange, state } from "./data.js";
import { ago, clock, h, hostName, parted } from "./dom.js";

const LINES_MOST = 300;
const LEVELS = { error: "bad", conflict: "bad", problem: "warn", warning: "warn", note: "soft" };
const ORDER = Object.keys(LEVELS);

export const title = "Problems";

export function problems() {
  const found = [];
  for (const each of state.hosts.filter((host) => host.state !== "up")) {
    found.push({ level: "warning", host: each.name, seen: `the host is down, last seen ${ago(each.seen)}`,
      next: `start it again, or give back what it holds: macvlan-global hosts remove ${each.name}` });
  }
  for (const report of state.reports.values()) {
    for (const text of report.problems) {
      const [seen, next] = parted(text);
      found.push({ level: / in conflict on | is in use on /.test(text) ? "conflict" : "problem", host: report.name, seen, next });
    }
    for (const each of report.findings) {
      if (!report.problems.some((text) => text.startsWith(each.seen))) found.push({ level: each.level, host: report.name, seen: each.seen, next: each.do });
    }
  }
  return found.sort((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level) || (a.host < b.host ? -1 : 1));
}

// Those that the number beside "Problems" counts: a note is none.
export const counted = () => problems().filter((each) => each.level !== "note").length;

export function open(main, parameters, setParameters) {
  const list = h("tbody");
  const events = h("ol", { class: "events" });
  const more = h("p", { class: "soft" });
  const conflicts = h("div");
  const input = h("input", { type: "search", id: "filter", autocomplete: "off", value: parameters.get("q") ?? "",
    placeholder: "word of a problem, host", oninput: () => { setParameters({ q: input.value }); draw(); } });
  main.replaceChildren(
    h("h2", {}, title),
    h("div", { class: "bar" }, h("label", { for: "filter" }, "Filter", input)),
    h("div", {}, h("table", { class: "flow", "aria-label": "Problems" },
      h("thead", {}, h("tr", {}, ["Level", "Host", "Problem", "Next step"].map((each) => h("th", { scope: "col" }, each)))), list)),
    more, conflicts,
    h("h2", {}, "What came and went since this page was opened"), events,
  );

  function draw() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (each) => words.every((word) => Object.values(each).join(" ").toLowerCase().includes(word));
    const found = problems().filter(matches);
    list.replaceChildren(...found.slice(0, LINES_MOST).map((each) => h("tr", {}, h("td", { class: LEVELS[each.level] }, each.level),
      h("td", {}, hostName(each.host)), h("td", {}, each.seen), h("td", {}, each.next || "–"))));
    more.textContent = !state.loaded ? "reading" : !found.length ? (state.missing ? "None of this host." : "None.") : found.length > LINES_MOST ? `and ${found.length - LINES_MOST} more: use the filter` : "";
    drawConflicts();
    events.replaceChildren(...state.events.filter((each) => matches({ text: each.text })).map((each) =>
      h("li", {}, h("time", { datetime: new Date(each.at * 1000).toISOString() }, clock(each.at)), `${each.kind}: ${each.text}`)));
  }

  function drawConflicts() {
    conflicts.replaceChildren(...(state.conflicts.length ? [
      h("h2", {}, "Conflicts on this host"),
      h("table", { class: "flow", "aria-label": "Conflicts" },
        h("thead", {}, h("tr", {}, ["Address", "Holder", "Device", "Where", "Last"].map((each) => h("th", { scope: "col" }, each)))),
        h("tbody", {}, state.conflicts.slice(-LINES_MOST).reverse().map((each) => h("tr", {},
          h("td", { class: "mono" }, each.address), h("td", {}, each.holder),
          h("td", {}, [each.mac, each.vendor, each.other].filter(Boolean).join(", "), ` ${each.how} it`),
          h("td", {}, each.vlan ? `${each.parent} (VLAN ${each.vlan})` : each.parent), h("td", {}, ago(each.last)))))),
    ] : []));
  }
  draw();
  return onChange((topics) => { if (!topics.has("addresses") || topics.size > 1) draw(); });
}
