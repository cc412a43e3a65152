// The keyboard: what each key does, and where it says so.

import { h } from "./dom.js";

const KEYS = [
  ["/", "search, on any page"],
  ["↑ ↓", "from row to row in a list, from page to page in the list of pages"],
  ["Page Up, Page Down, Home, End", "through a list"],
  ["Enter", "open a row"],
  ["Esc", "leave the search, close what is open"],
  ["?", "this list"],
];

const typing = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;

/** Let keys work: `search` focuses the search of the page, `button` shows what keys there are. */
export function keys({ search, button, pages }) {
  const dialog = h(
    "dialog",
    { class: "keys", "aria-label": "Keys" },
    h("h2", {}, "Keys"),
    h(
      "dl",
      {},
      KEYS.map(([key, does]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, does)]),
    ),
    h("form", { method: "dialog" }, h("button", { type: "submit" }, "Close")),
  );
  document.body.append(dialog);
  button.addEventListener("click", () => dialog.showModal());

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.key === "Escape" && event.target.matches("input[type=search]")) document.getElementById("main").focus();
    if (typing(event.target)) return;
    if (event.key === "/") {
      event.preventDefault();
      search();
    } else if (event.key === "?") {
      event.preventDefault();
      dialog.showModal();
    }
  });

  pages.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const links = [...pages.querySelectorAll("a")].filter((link) => link.offsetParent !== null);
    links[(links.indexOf(document.activeElement) + step + links.length) % links.length].focus();
  });
}
