// Plan: a subnet as a map of cells. A cell is an address, or a block of them; a click goes into the block.

import { onChange, rows, state } from "./data.js";
import { ago, h, hostName, hue } from "./dom.js";
import * as ip from "./ip.js";

const STEP = 8; // bits from a map to the next: 256 cells
const LETTERS = { gateway: "G", aux: "A", host: "H", reserved: "R", remembered: "M", conflict: "!" };
const KEY = [["cell", "free"], ["cell held hue-0", "held, in the colour of its host"], ["cell part hue-0", "block, filled so far"],
  ["cell gateway", "gateway"], ["cell aux", "aux address"], ["cell host", "own address of a host"], ["cell reserved", "reserved"],
  ["cell remembered", "remembered"], ["cell conflict", "conflict"], ["cell outside", "outside of all subnets"]];

export const title = "Plan";

// Every subnet once, with the networks that have it.
function subnets() {
  const found = new Map();
  for (const network of state.networks) {
    for (const each of network.subnets) {
      const id = `${each.space} ${each.subnet}`;
      const known = found.get(id);
      if (known) known.names.push(network.name);
      else found.set(id, { ...each, id, names: [network.name], prefix: ip.prefix(each.subnet) });
    }
  }
  return [...found.values()].filter((each) => each.prefix).sort((a, b) => (a.prefix.first < b.prefix.first ? -1 : 1));
}

// Index of the first row whose key is not below `key`.
function seek(sorted, key) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle].key < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Conflicts that this host saw and that go on; those of before are kept too.
const current = () => state.conflicts.filter((each) => each.current);

// Addresses in conflict: those that this host sees, and those in reports of other hosts, where they are in words.
function inConflict() {
  const told = [...state.reports.values()].flatMap((each) => each.problems)
    .map((text) => /^address (\S+) of .* is in conflict on /.exec(text)?.[1]);
  return new Set([...current().map((each) => each.address), ...told].filter((each) => each && ip.prefix(each)));
}

// The 256 cells, or fewer, of a prefix: what each holds.
function cellsOf(prefix, space) {
  const version = prefix.first[0];
  const more = Math.min(STEP, ip.width(version) - prefix.length);
  const cells = Array.from({ length: 1 << more }, () => ({ rows: 0, row: null, kinds: new Set(), hosts: new Map() }));
  const end = ip.last(prefix);
  const cellOf = (key) => (key[0] === version && key >= prefix.first && key <= end
    ? cells[more ? ip.bits(key, prefix.length, more) : 0] : null);
  const sorted = rows();
  for (let at = seek(sorted, prefix.first); at < sorted.length && sorted[at].key <= end; at += 1) {
    const row = sorted[at];
    if (row.space !== space) continue;
    const cell = cells[more ? ip.bits(row.key, prefix.length, more) : 0];
    cell.rows += 1;
    cell.row = row;
    if (row.kind !== "endpoint") cell.kinds.add(row.kind);
    cell.hosts.set(row.host, (cell.hosts.get(row.host) ?? 0) + 1);
  }
  for (const each of state.remembered) {
    const cell = each.space === space && !each.in_use ? cellOf(each.key) : null;
    if (cell) cell.kinds.add("remembered"), (cell.remembered = each);
  }
  for (const address of inConflict()) cellOf(ip.key(address))?.kinds.add("conflict");
  for (const report of state.reports.values()) {
    for (const address of report.addresses) {
      const cell = ip.prefix(address) ? cellOf(ip.key(address)) : null;  // another host's words
      if (cell) cell.kinds.add("host"), (cell.own = report.name), (cell.ownAddress = address);
    }
  }
  return { cells, more };
}

export function open(main, parameters, setParameters) {
  let space = parameters.get("space") ?? "";
  let shown = parameters.get("at") ? ip.prefix(parameters.get("at")) : null;
  let focus = 0;
  let drawn = null;
  const choice = h("select", { id: "subnet", onchange: () => go(choice.value.split(" ")[0], ip.prefix(choice.value.split(" ")[1])) });
  const input = h("input", { type: "search", id: "filter", autocomplete: "off", placeholder: "address or prefix", size: 24 });
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); jump(); } },
    h("label", { for: "filter" }, "Go to", input));
  const out = h("button", { onclick: () => go(space, ip.wider(shown, STEP)) }, "Zoom out");
  const where = h("strong", { class: "mono", role: "status" });
  const grid = h("div", { class: "cells", role: "group", onkeydown: move });
  const detail = h("aside", { "aria-label": "Cell", "aria-live": "polite" });
  const nothing = h("p", { class: "soft" });
  main.replaceChildren(
    h("h2", {}, title),
    h("div", { class: "bar" }, h("label", { for: "subnet" }, "Subnet", choice), form, out, where), nothing,
    h("div", { class: "plan" },
      h("div", {}, grid, h("ul", { class: "key", "aria-label": "Key" }, KEY.map(([name, text]) =>
        h("li", {}, h("span", { class: name, "aria-hidden": "true" }, LETTERS[name.split(" ")[1]] ?? ""), text)))),
      detail),
  );

  function jump() {
    const wanted = ip.prefix(input.value);
    input.setCustomValidity(wanted ? "" : "no address and no prefix");
    if (!wanted) return input.reportValidity();
    const within = subnets().find((each) => ip.holds(each.prefix, wanted));
    return go(within ? within.space : space, wanted);
  }

  // A map of one address shows its neighbours, with the focus on it.
  function go(toSpace, prefix) {
    space = toSpace;
    shown = prefix;
    focus = 0;
    setParameters({ space, at: ip.show(prefix) }, { push: true });
    draw();
    grid.children[focus]?.focus();
  }

  function mapOf(prefix) {
    const whole = ip.width(prefix.first[0]);
    if (prefix.length < whole) return { map: prefix, at: 0 };
    const subnet = subnets().find((each) => each.space === space && ip.holds(each.prefix, prefix));
    const map = ip.wider(prefix, Math.min(STEP, whole - Math.min(subnet?.prefix.length ?? 0, whole - 1)));
    return { map, at: ip.bits(prefix.first, map.length, whole - map.length) };
  }

  // Into the block; on through blocks of which one part alone has anything.
  function into(prefix) {
    let next = prefix;
    for (;;) {
      const { cells, more } = cellsOf(next, space);
      const filled = cells.flatMap((cell, at) => (cell.rows || cell.kinds.size ? [at] : []));
      if (next.length + more === ip.width(next.first[0]) || filled.length !== 1) break;
      next = ip.child(next, more, filled[0]);
    }
    go(space, next);
  }

  function move(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 16, ArrowUp: -16 };
    const to = event.key === "Home" ? 0 : event.key === "End" ? grid.children.length - 1 : focus + (steps[event.key] ?? NaN);
    if (event.key === "Escape" || event.key === "Backspace") out.click();
    if (!(to >= 0 && to < grid.children.length)) return;
    event.preventDefault();
    grid.children[to].focus();
  }

  function looked(at) {
    grid.children[focus]?.setAttribute("tabindex", -1);
    focus = at;
    grid.children[at]?.setAttribute("tabindex", 0);
    drawDetail();
  }

  function draw() {
    const all = subnets();
    const options = all.map((each) => [`${each.space} ${each.subnet}`, `${each.subnet} (${each.names.join(", ")})`]);
    if (!shown && all.length) [space, shown] = [all[0].space, all[0].prefix];
    if (shown && !parameters.has("space") && !space) space = all.find((each) => ip.holds(each.prefix, shown))?.space ?? "";
    nothing.textContent = !state.loaded ? "reading" : all.length ? state.missing : "There is no network yet.";
    grid.hidden = out.hidden = !shown;
    if (!shown) return;
    const { map, at } = mapOf(shown);
    if (shown.length === ip.width(shown.first[0]) && drawn?.shown !== shown) focus = at;
    const current = `${space} ${ip.show(shown)}`;
    if (!options.some(([value]) => value === current)) options.push([current, `${ip.show(shown)}`]);
    choice.replaceChildren(...options.map(([value, text]) => h("option", { value, selected: value === current }, text)));
    where.textContent = ip.show(map);
    out.disabled = map.length === 0;
    grid.setAttribute("aria-label", `Map of ${ip.show(map)}`);
    drawn = { shown, map, ...cellsOf(map, space), all: all.filter((each) => each.space === space) };
    const focused = grid.contains(document.activeElement);
    focus = Math.min(focus, drawn.cells.length - 1);
    const made = drawn.cells.map((cell, index) => drawCell(cell, index));
    // cells are kept, so that the focus and the pointer stay where they are
    if (grid.children.length === made.length) made.forEach((each, index) => patch(grid.children[index], each));
    else grid.replaceChildren(...made);
    if (focused) grid.children[focus].focus();
    drawDetail();
  }

  function patch(old, made) {
    for (const { name, value } of made.attributes) {
      if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (old.textContent !== made.textContent) old.textContent = made.textContent;
    old.style.setProperty("--full", made.style.getPropertyValue("--full"));
  }

  function prefixOf(index) {
    return ip.child(drawn.map, drawn.more, index);
  }

  function drawCell(cell, index) {
    const of = prefixOf(index);
    const single = of.length === ip.width(of.first[0]);
    const inside = drawn.all.some((each) => ip.holds(each.prefix, of) || ip.holds(of, each.prefix));
    const kind = ["conflict", "gateway", "aux", "host", "reserved", "remembered"].find((each) => cell.kinds.has(each));
    const most = [...cell.hosts].sort((a, b) => b[1] - a[1])[0]?.[0];
    const classes = ["cell", cell.rows && (single ? "held" : "part"), most && hue(most), kind, !inside && !cell.rows && "outside"];
    const label = single ? LETTERS[kind] ?? (cell.rows ? "●" : "") : cell.rows ? short(cell.rows) : LETTERS[kind] ?? "";
    const made = h("button", { class: classes.filter(Boolean).join(" "), tabindex: index === focus ? 0 : -1,
      "aria-label": `${ip.show(of)}: ${inWords(cell, single, inside, kind)}`,
      onfocus: () => looked(index), onmouseenter: () => looked(index), onclick: () => { if (!isSingle(index)) into(prefixOf(index)); else setParameters({ space, at: ip.show(prefixOf(index)) }); } }, label);
    const size = 2 ** Math.min(60, ip.width(of.first[0]) - of.length);
    made.style.setProperty("--full", cell.rows ? `${Math.max(12, Math.min(100, (cell.rows / size) * 100))}%` : "0%");
    return made;
  }

  const free = () => (state.missing ? "not known" : "free");
  const isSingle = (index) => prefixOf(index).length === ip.width(drawn.map.first[0]);
  const short = (count) => (count < 1000 ? String(count) : `${Math.floor(count / 1000)}k`);

  function inWords(cell, single, inside, kind) {
    if (!cell.rows && !kind) return inside ? free() : "outside of all subnets";
    if (!single) return [cell.rows && `${cell.rows} held`, ...cell.kinds].filter(Boolean).join(", ");
    return [kind, cell.row && (cell.row.holder || cell.row.kind), cell.row?.host].filter(Boolean).join(", ");
  }

  function drawDetail() {
    if (!drawn) return;
    const cell = drawn.cells[focus];
    const of = prefixOf(focus);
    const single = isSingle(focus);
    const row = single ? cell.row : null;
    const facts = [];
    if (row) {
      facts.push(["Kind", row.kind], ["Holder", row.holder || "–"], ["Network", row.network], ["MAC", row.mac || "–"],
        ["Host", h("span", {}, hostName(row.host))], ["Since", `${new Date(row.at * 1000).toLocaleString()}, ${ago(row.at)}`]);
    }
    if (single && cell.own) facts.push(["Own address of", cell.own]);
    if (single && cell.remembered) {
      facts.push(["Remembered for", cell.remembered.name || "(--ip)"], ["Last used", ago(cell.remembered.at)], ["On host", cell.remembered.host]);
    }
    for (const each of single ? current().filter((one) => ip.key(one.address) === of.first) : []) {
      facts.push(["Conflict", `${each.mac} ${each.how} it on ${each.parent}`]);
    }
    if (!single) {
      facts.push(["Held", state.missing ? "not known" : String(cell.rows)], ...[...cell.hosts].sort((a, b) => b[1] - a[1]).slice(0, 12)
        .map(([host, count]) => [h("span", {}, hostName(host)), String(count)]));
    }
    if (!facts.length) facts.push(["State", drawn.all.some((each) => ip.holds(each.prefix, of)) ? free() : "outside of all subnets"]);
    detail.replaceChildren(h("h2", { class: "mono" }, ip.show(of)),
      h("dl", {}, facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      h("p", { class: "soft" }, single ? "Arrow keys move, Escape zooms out." : "Enter zooms in, arrow keys move, Escape zooms out."));
  }
  draw();
  return onChange((topics) => {
    if (["addresses", "networks", "reports", "conflicts", "addresses/remembered", "loaded"].some((each) => topics.has(each))) draw();
  });
}
