// What is wrong, what Portway did instead, and how to mend it.

import { empty, h, put, write } from "../dom.js";
import { count, whole } from "../format.js";
import { problemOf, worstFirst } from "../parts.js";

const MOST = 200; // More are read in /problems, or after the first are mended.

/** The page of problems. */
export function problems(store) {
  const body = h("ul", { class: "problems wide" });
  const found = h("p", { class: "soft" });
  const draw = () => {
    const all = store.problems.length + store.moreProblems;
    const worst = worstFirst(store.problems);
    write(found, all ? count(all, "problem") : "");
    put(
      body,
      worst.slice(0, MOST).map(problemOf),
      all === 0 && h("li", {}, empty("No problems", "Everything that was asked for is served.")),
      all > MOST &&
        h("li", { class: "soft" }, `and ${whole(all - MOST)} more at `, h("a", { href: "../problems" }, "/problems")),
    );
  };
  return {
    element: h("div", { class: "page" }, h("header", {}, h("h1", {}, "Problems"), found), body),
    title: "Problems",
    show: draw,
    draw: { problems: draw },
  };
}
