// A table of any length of which only the rows in view are in the document.

import { h } from "./dom.js";

const MORE = 8; // rows above and below the view

export class VirtualTable {
  // columns: objects with name, cell (row → text or elements), and perhaps sort (row → key) and wide (not on a phone).
  constructor(label, columns, { chosen = () => false } = {}) {
    this.columns = columns;
    this.chosen = chosen;
    this.rows = [];
    this.shown = [];
    this.by = null;
    this.down = false;
    this.head = h("tr", { "aria-rowindex": 1 });
    this.above = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
    this.below = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
    this.body = h("tbody", {}, this.above, this.below);
    this.table = h("table", { "aria-label": label }, h("thead", {}, this.head), this.body);
    this.element = h("div", { class: "rows", tabindex: 0, role: "region", "aria-label": label, onscroll: () => this.draw() },
      this.table);
    this.drawHead();
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  setColumns(columns) {
    this.columns = columns;
    this.drawHead();
  }

  drawHead() {
    this.head.replaceChildren(...this.columns.map((column) => {
      const by = this.by === column.name;
      const content = column.sort ? h("button", { onclick: () => this.sortBy(column) }, column.name, by ? (this.down ? " ↓" : " ↑") : "")
        : column.name;
      return h("th", { scope: "col", class: column.wide ? "wide" : null, "aria-sort": by ? (this.down ? "descending" : "ascending") : null },
        content);
    }));
  }

  sortBy(column) {
    this.down = this.by === column.name && !this.down;
    this.by = column.name;
    this.drawHead();
    this.head.children[this.columns.indexOf(column)].querySelector("button").focus();
    this.setRows(this.given);
  }

  // `rows` in their usual order; each has an `id`.
  setRows(rows) {
    this.given = rows;
    const column = this.columns.find((each) => each.name === this.by);
    const turn = this.down ? -1 : 1;
    this.rows = column ? rows.map((row) => [column.sort(row), row])
      .sort(([a], [b]) => (a < b ? -turn : a > b ? turn : 0)).map(([, row]) => row) : rows;
    this.table.setAttribute("aria-rowcount", this.rows.length + 1);
    this.draw(true);
  }

  draw(anew = false) {
    const height = this.height ||= parseFloat(getComputedStyle(document.documentElement).fontSize) * 2;
    const from = Math.max(0, Math.floor(this.element.scrollTop / height) - MORE);
    const to = Math.min(this.rows.length, from + Math.ceil(this.element.clientHeight / height) + 2 * MORE);
    const visible = this.rows.slice(from, to);
    const same = this.from === from && visible.length === this.shown.length && visible.every((row, at) => row === this.shown[at]);
    if (same && !anew) return;
    this.above.firstChild.style.height = `${from * height}px`;
    this.below.firstChild.style.height = `${(this.rows.length - to) * height}px`;
    if (same && anew !== "all") return;
    const focused = document.activeElement?.dataset?.focus;
    [this.from, this.shown] = [from, visible];
    this.body.replaceChildren(this.above, ...visible.map((row, at) => this.row(row, from + at)), this.below);
    if (focused && !document.activeElement?.dataset?.focus) {
      this.body.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    }
  }

  row(row, index) {
    return h("tr", { "aria-rowindex": index + 2, class: this.chosen(row) ? "chosen" : null },
      this.columns.map((column) => {
        const cell = column.cell(row);
        return h("td", { class: [column.wide && "wide", column.class].filter(Boolean).join(" ") || null,
          title: typeof cell === "string" ? cell : null }, cell);
      }));
  }
}
