// Hosts × networks: the parent that each host chose for each network, and why.

import { onChange, state } from "./data.js";
import { ago, h, hostName } from "./dom.js";
import { VirtualTable } from "./table.js";

const STATES = { up: ["✓", "good"], "no carrier": ["!", "warn"], down: ["✗", "bad"], missing: ["✗", "bad"] };

export const title = "Hosts × networks";

// Hosts as the cluster lists them, with their reports; of a host alone its own.
function hosts() {
  const listed = state.hosts.length ? state.hosts : [...state.reports.values()].slice(0, 1)
    .map((each) => ({ ...each, state: "up", this: true, engine: state.engine, seen: Date.now() / 1000 }));
  return listed.map((each) => ({ ...each, report: state.reports.get(each.id) }));
}

// Networks by id, each with the name that most likely is known to an operator: this host's, else any that is no id.
function networks(all) {
  const names = new Map();
  for (const host of all) {
    for (const each of host.report?.networks ?? []) {
      if (!names.has(each.id) || each.id.startsWith(names.get(each.id))) names.set(each.id, each.name);
    }
  }
  for (const each of state.networks) names.set(each.cluster || each.id, each.name);
  return [...names].map(([id, name]) => ({ id, name })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

const FACTS = [
  { name: "Host", sort: (row) => row.name, cell: (row) => h("span", {}, hostName(row.name), row.this ? h("span", { class: "soft" }, " (this one)") : "") },
  { name: "State", sort: (row) => row.state, cell: (row) => h("span", { class: row.state === "up" ? "good" : "bad" }, row.state) },
  { name: "Version", wide: true, sort: (row) => row.version, cell: (row) => row.version || "–" },
  { name: "Engine", wide: true, sort: (row) => row.engine, cell: (row) => row.engine || "–" },
  { name: "Last seen", wide: true, sort: (row) => row.seen, cell: (row) => (row.state === "up" ? "now" : ago(row.seen)) },
];

export function open(main, parameters, setParameters) {
  let shown = { host: parameters.get("host"), network: parameters.get("network") };
  const table = new VirtualTable(title, FACTS);
  const detail = h("aside", { "aria-label": "Choice of the parent", "aria-live": "polite", hidden: true });
  const input = h("input", { type: "search", id: "filter", autocomplete: "off", value: parameters.get("q") ?? "",
    placeholder: "name of a host", oninput: () => { setParameters({ q: input.value }); draw(); } });
  main.replaceChildren(
    h("h2", {}, title),
    h("div", { class: "bar" }, h("label", { for: "filter" }, "Filter", input)),
    table.element, detail,
  );

  function column({ id, name }) {
    return {
      name,
      cell: (row) => {
        const found = row.report?.networks.find((each) => each.id === id);
        if (!found) return h("span", { class: "soft" }, row.report ? "–" : "no report");
        const [sign, colour] = STATES[found.state];
        const bad = found.problem || found.members_down.length;
        return h("button", { "data-focus": `${row.id} ${name}`, onclick: () => choose(row.name, name),
          "aria-label": `${name} on ${row.name}: parent ${found.parent || "none"}, ${found.state}${bad ? ", with a problem" : ""}` },
        h("span", { class: colour }, sign), ` ${found.parent || "none"}`, bad ? h("span", { class: "warn" }, " !") : "");
      },
    };
  }

  function choose(host, network) {
    shown = { host, network };
    setParameters({ host, network });
    drawDetail();
  }

  function drawDetail() {
    const host = hosts().find((each) => each.name === shown.host);
    const id = networks(hosts()).find((each) => each.name === shown.network)?.id;
    const found = host?.report?.networks.find((each) => each.id === id);
    detail.hidden = !found;
    if (!found) return;
    detail.replaceChildren(
      h("h2", {}, `${shown.network} on ${host.name}`),
      h("dl", {}, ...[
        ["Parent", `${found.parent || "none"}${found.made ? " (made by the driver)" : ""}`],
        ["Link", found.state],
        ["VLAN", found.vlan || "untagged"],
        ["Members down", found.members_down.join(", ") || "none"],
        ["Asked for", found.source || "–"],
        ["Would be chosen now", found.chosen || "none"],
        ["Problem", found.problem || "none"],
      ].flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))])),
      h("table", { class: "flow", "aria-label": "Entries" },
        h("thead", {}, h("tr", {}, ["Entry", "Verdict", "Reason"].map((each) => h("th", { scope: "col" }, each)))),
        h("tbody", {}, found.verdicts.map((each) => h("tr", {}, h("td", { class: "mono" }, each.entry),
          h("td", { class: each.usable ? "good" : "warn" }, each.usable ? "chosen" : "passed over"), h("td", {}, each.reason))))),
    );
  }

  function draw() {
    const all = hosts();
    table.setColumns([...FACTS, ...networks(all).map(column)]);
    const word = input.value.toLowerCase();
    table.from = -1; // reports may have changed in rows that look the same
    table.setRows(all.filter((each) => each.name.toLowerCase().includes(word)));
    drawDetail();
  }
  draw();
  return onChange((topics) => { if (["hosts", "reports", "networks", "loaded"].some((each) => topics.has(each))) draw(); });
}
