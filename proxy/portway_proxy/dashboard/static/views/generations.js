// What was served, one after the other, and what made each.

import { h, put } from "../dom.js";
import { timeline } from "../parts.js";

/** The page of generations. */
export function generations() {
  const body = h("div", {});
  return {
    element: h(
      "div",
      { class: "page" },
      h("header", {}, h("h1", {}, "Generations")),
      h("section", { class: "card", "aria-label": "Timeline" }, body),
    ),
    title: "Generations",
    show: () => {},
    draw: {
      generations: (list) =>
        put(body, list.length ? timeline(list) : h("p", { class: "soft" }, "Nothing was served yet.")),
    },
  };
}
