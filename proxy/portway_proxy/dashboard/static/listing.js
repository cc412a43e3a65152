// A page that is one long list: a search field, how many were found, the list, and beside it what was chosen from it.

import { h, put, write } from "./dom.js";
import { count } from "./format.js";
import { List } from "./list.js";
import { note } from "./places.js";

const REORDER = 5; // Of so many tellings one: rows that move each second cannot be read.

const holds = (text, wanted) => wanted.every((word) => text.includes(word));

/** What is shown of one row beside the list; `make` returns its content, `refresh` writes its figures anew. */
export class Aside {
  constructor({ label, make, refresh = () => {} }) {
    Object.assign(this, { make, refresh, row: null, closed: () => {} });
    this.body = h("div", { class: "detail-body" });
    this.close = h(
      "button",
      { type: "button", class: "plain close", "aria-label": "Close", onclick: () => this.leave() },
      "✕",
    );
    this.element = h(
      "aside",
      {
        class: "detail",
        "aria-label": label,
        tabindex: -1,
        hidden: true,
        onkeydown: (event) => event.key === "Escape" && this.leave(),
      },
      this.close,
      this.body,
    );
  }

  show(row) {
    this.row = row;
    this.element.hidden = row === null;
    if (row === null) return;
    put(this.body, this.make(row));
    this.refresh(row);
  }

  open(row) {
    this.show(row);
    this.element.scrollTop = 0;
    this.element.focus({ preventScroll: true });
  }

  leave() {
    this.show(null);
    this.closed();
  }
}

/**
 * A page with a list.
 *
 * `all` returns the rows, `text` what of a row is searched, `key` what a row is known by from one table to the next.
 * `orders` are the ways to sort it: [name, text, number of a row], of which the first is the list's own order.
 */
export class Listing {
  constructor({ page, title, noun, all, text, columns, key, orders = [], aside = null, open = null, before = null }) {
    Object.assign(this, { page, title, noun, all, text, key, orders, aside, texts: new WeakMap(), beats: 0 });
    this.search = h("input", {
      type: "search",
      class: "search",
      "aria-label": `Search ${title.toLowerCase()}`,
      placeholder: "Search   ( / )",
      spellcheck: "false",
      autocomplete: "off",
      autocapitalize: "off",
      oninput: () => this.find({ top: true }),
    });
    this.order = h(
      "select",
      { "aria-label": "Order", hidden: orders.length === 0, onchange: () => this.find({ top: true }) },
      orders.map(([name, label]) => h("option", { value: name }, label)),
    );
    this.found = h("p", { class: "soft", role: "status" });
    this.nothing = h("p", { class: "list-empty" });
    this.list = new List({ label: title, name: page, columns, key, open: open ?? ((row) => aside?.open(row)) });
    if (aside) aside.closed = () => this.list.element.focus();
    this.element = h(
      "div",
      { class: "page fills" },
      h("header", {}, h("h1", {}, title), this.search, this.order, this.found),
      before,
      h(
        "div",
        { class: "beside" },
        h("div", { class: "list-frame live-figures" }, this.list.element, this.nothing),
        aside?.element,
      ),
    );
  }

  show(parameters) {
    this.search.value = parameters.get("q") ?? "";
    this.order.value = parameters.get("sort") ?? "";
    if (this.order.selectedIndex < 0) this.order.selectedIndex = 0;
    this.find({ top: true });
  }

  /** Find and order the rows anew; `top` goes to the first of them. */
  find({ top = false } = {}) {
    const all = this.all();
    const wanted = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = this.ordered(wanted.length ? all.filter((row) => holds(this.textOf(row), wanted)) : all);
    this.list.set(rows);
    if (top) this.list.toTop();
    this.nothing.hidden = rows.length > 0;
    write(this.nothing, all.length ? "Nothing has all of these words." : "There are none.");
    const many = rows.length === all.length ? "" : ` of ${all.length}`;
    write(this.found, `${count(rows.length, ...this.noun)}${many}`);
    note(this.page, { q: this.search.value, sort: this.order.value });
  }

  textOf(row) {
    if (!this.texts.has(row)) this.texts.set(row, this.text(row).toLowerCase());
    return this.texts.get(row);
  }

  ordered(rows) {
    const number = this.orders.find(([name]) => name === this.order.value)?.[2];
    return number ? [...rows].sort((a, b) => number(b) - number(a)) : rows;
  }

  /** The table is another one: find again, and show what was open as it is now. */
  renew() {
    this.find();
    const open = this.aside?.row;
    if (open) this.aside.show(this.all().find((row) => this.key(row) === this.key(open)) ?? null);
  }

  /** The figures are others: write those in sight, and now and then put the rows into their new order. */
  follow() {
    this.beats += 1;
    if (this.order.selectedIndex > 0 && this.beats % REORDER === 0) this.find();
    this.refresh();
  }

  refresh() {
    this.list.refresh();
    if (this.aside?.row) this.aside.refresh(this.aside.row);
  }
}
