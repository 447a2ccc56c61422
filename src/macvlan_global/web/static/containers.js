// Containers: every address with its holder, filtered as one types. The filter is in the address of the page.

import { onChange, rows, state } from "./data.js";
import { ago, h, hostName } from "./dom.js";
import { VirtualTable } from "./table.js";

// To add a column, add an entry: `cell` makes its content, `sort` its key; `wide` ones are left out on a phone.
const COLUMNS = [
  { name: "Address", class: "mono", sort: (row) => row.key,
    cell: (row) => h("a", { href: `#plan?${new URLSearchParams({ space: row.space, at: row.address })}`, "data-focus": row.id }, row.address) },
  { name: "Holder", sort: (row) => row.holder, cell: (row) => row.holder || "–" },
  { name: "Network", sort: (row) => row.network, cell: (row) => row.network || "–" },
  { name: "Host", sort: (row) => row.host, cell: (row) => h("span", {}, hostName(row.host)) },
  { name: "MAC", wide: true, class: "mono", sort: (row) => row.mac, cell: (row) => row.mac || "–" },
  { name: "Kind", wide: true, sort: (row) => row.kind, cell: (row) => row.kind },
  { name: "Since", wide: true, sort: (row) => row.at, cell: (row) => ago(row.at) },
];

export const title = "Containers";

export function filtered(all, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return words.length ? all.filter((row) => words.every((word) => row.text.includes(word))) : all;
}

export function open(main, parameters, setParameters) {
  const table = new VirtualTable("Containers", COLUMNS);
  const count = h("span", { class: "soft", role: "status" });
  const input = h("input", { type: "search", id: "filter", autocomplete: "off", spellcheck: "false", value: parameters.get("q") ?? "",
    placeholder: "name, address, MAC, network, host", oninput: () => { setParameters({ q: input.value }); draw(); } });
  main.replaceChildren(
    h("h2", {}, title),
    h("div", { class: "bar" }, h("label", { for: "filter" }, "Filter", input), count),
    table.element,
  );
  function draw() {
    const found = filtered(rows(), input.value);
    count.textContent = state.missing || `${found.length} of ${state.addresses.size}`;
    table.setRows(found);
  }
  draw();
  return onChange((topics) => { if (topics.has("addresses") || topics.has("loaded")) draw(); });
}
