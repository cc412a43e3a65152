// A table of which only the rows in sight are in the document: 5,000 routes cost what fifty do.

import { h, put, write } from "./dom.js";

const SPARE = 6; // Rows beyond each edge, so that a turn of the wheel finds them there.
const NARROW = 576; // Pixels, below which a row has two lines (list.css: 36rem).

/**
 * A grid of rows that all have one height.
 *
 * `columns` are {title, name, cell(row) -> node or text, live(row) -> text}: `live` ones are written anew by `refresh`.
 * `key` is what a row is known by, `open` is called with one that is chosen; `heights` are those of a row on a wide and
 * on a narrow page, in pixels.
 */
export class List {
  constructor({ label, name, columns, key, open, heights = [36, 58] }) {
    Object.assign(this, {
      columns,
      key,
      open,
      heights,
      rows: [],
      shown: new Map(),
      active: -1,
      name,
      height: heights[0],
    });
    this.body = h("div", { class: "list-body", role: "rowgroup" });
    this.port = h("div", { class: "list-port", role: "presentation" }, this.body);
    const head = h(
      "div",
      { class: "list-row list-head", role: "row", "aria-rowindex": 1 },
      columns.map(({ title, name: column }) => h("span", { class: `cell ${column}`, role: "columnheader" }, title)),
    );
    this.element = h(
      "div",
      { class: `list ${name}`, role: "grid", tabindex: 0, "aria-label": label, "aria-colcount": columns.length },
      h("div", { role: "rowgroup" }, head),
      this.port,
    );
    this.port.addEventListener("scroll", () => this.draw(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.press(event));
    this.body.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.resize()).observe(this.port);
  }

  resize() {
    const before = this.height;
    this.height = this.heights[this.element.clientWidth <= NARROW ? 1 : 0];
    if (this.height === before) this.draw();
    else this.set(this.rows);
  }

  /** Show `rows`, and stay where the reader is. */
  set(rows) {
    const active = this.rows[this.active];
    this.rows = rows;
    this.active = active === undefined ? -1 : rows.findIndex((row) => this.key(row) === this.key(active));
    this.element.setAttribute("aria-rowcount", rows.length + 1);
    this.body.style.height = `${rows.length * this.height}px`;
    this.shown.clear();
    put(this.body);
    this.draw();
  }

  toTop() {
    this.port.scrollTop = 0;
  }

  draw() {
    const first = Math.max(0, Math.floor(this.port.scrollTop / this.height) - SPARE);
    const last = Math.min(
      this.rows.length,
      Math.ceil((this.port.scrollTop + this.port.clientHeight) / this.height) + SPARE,
    );
    for (const [index, element] of this.shown) {
      if (index >= first && index < last) continue;
      element.remove();
      this.shown.delete(index);
    }
    for (let index = first; index < last; index += 1) if (!this.shown.has(index)) this.show(index);
    this.mark();
  }

  show(index) {
    const row = this.rows[index];
    const cells = this.columns.map(({ name, cell, live }) =>
      h("span", { class: `cell ${name}`, role: "gridcell" }, live ? live(row) : cell(row)),
    );
    const fresh = row.freshUntil > Date.now() ? " fresh" : "";
    const element = h(
      "div",
      { class: `list-row${fresh}`, role: "row", id: `${this.name}-${index}`, "aria-rowindex": index + 2 },
      cells,
    );
    element.style.transform = `translateY(${index * this.height}px)`;
    element.style.height = `${this.height}px`;
    this.shown.set(index, element);
    // In the order of the rows, which is what a screen reader goes by.
    const next = [...this.shown.keys()].filter((other) => other > index);
    this.body.insertBefore(element, next.length ? this.shown.get(Math.min(...next)) : null);
  }

  /** Write the live cells of the rows in sight anew. */
  refresh() {
    for (const [index, element] of this.shown) {
      this.columns.forEach(({ live }, at) => live && write(element.children[at], live(this.rows[index])));
    }
  }

  mark() {
    for (const [index, element] of this.shown) element.setAttribute("aria-selected", index === this.active);
    const there = this.shown.has(this.active);
    if (there) this.element.setAttribute("aria-activedescendant", `${this.name}-${this.active}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  click(event) {
    const element = event.target.closest(".list-row");
    const found = [...this.shown].find(([, one]) => one === element);
    if (!found || event.target.closest("a, button")) return;
    this.activate(found[0]);
    this.open?.(this.rows[found[0]]);
  }

  activate(index) {
    this.active = Math.max(0, Math.min(this.rows.length - 1, index));
    const top = this.active * this.height;
    if (top < this.port.scrollTop) this.port.scrollTop = top;
    const under = top + this.height - this.port.clientHeight;
    if (under > this.port.scrollTop) this.port.scrollTop = under;
    this.draw();
  }

  press(event) {
    const page = Math.max(1, Math.floor(this.port.clientHeight / this.height) - 1);
    const steps = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -this.rows.length,
      End: this.rows.length,
    };
    if (event.target !== this.element || this.rows.length === 0) return;
    if (event.key in steps) {
      event.preventDefault();
      this.activate(this.active + steps[event.key]);
    } else if (event.key === "Enter" && this.active >= 0) {
      event.preventDefault();
      this.open?.(this.rows[this.active]);
    }
  }
}
