// Parts that several views are made of.

import { h, pill, write } from "./dom.js";
import { ago, count, day, latency, moment, rate, share, span } from "./format.js";
import { address } from "./places.js";

/** Return the tone of a share of requests that failed. */
export const failing = (failed) => (failed >= 0.05 ? "bad" : failed >= 0.01 ? "warn" : "quiet");

/**
 * Return what makes live texts of rows: `live(text)(row)` is `text` of the row's figures, or a dash without requests.
 *
 * The figures are those of a kind in the store, by what `key` returns of a row.
 */
export const liveTexts = (store, kind, key) => (text) => (row) => {
  const now = store.figure(kind, key(row));
  return now.requests === 0 ? "–" : text(now);
};

/** Return how many endpoints of an upstream can be used, as a pill. */
export function ready(store, name) {
  const upstream = store.upstreams.get(name);
  if (!upstream) return pill("quiet", "–");
  const unwell = store.unwell.get(name);
  const out = unwell ? unwell.ejected + unwell.failing : 0;
  if (upstream.external) return pill("quiet", upstream.external);
  if (upstream.endpoints === 0) return pill("bad", upstream.reason || "none");
  if (out > 0) return pill("warn", `${upstream.endpoints - out} of ${upstream.endpoints}`);
  return pill("ok", String(upstream.endpoints));
}

/** Return a path, and how it is compared. */
export const pathOf = ({ path, match }) =>
  h("span", { class: "path" }, h("span", { class: "mono" }, path || "/"), " ", h("span", { class: "match" }, match));

/**
 * A small table with headers. Rows that stay keep their place in the document, so that a focus or a selection in them
 * stays too, however often they are set.
 */
export class Table {
  constructor(label, headers) {
    this.body = h("tbody", {});
    this.rows = new Map();
    this.element = h(
      "div",
      { class: "table-port", tabindex: 0, role: "region", "aria-label": label },
      h(
        "table",
        { "aria-label": label },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            headers.map((title) => h("th", { scope: "col" }, title)),
          ),
        ),
        this.body,
      ),
    );
  }

  /** Show `rows`: [key, cells]. A cell is a text, a node, or a function that makes a node once for its key. */
  set(rows) {
    const kept = new Set(rows.map(([key]) => key));
    for (const [key, row] of this.rows) {
      if (kept.has(key)) continue;
      row.remove();
      this.rows.delete(key);
    }
    let place = this.body.firstChild;
    for (const [key, cells] of rows) {
      const row = this.row(key, cells);
      if (row === place) place = place.nextSibling;
      else this.body.insertBefore(row, place);
    }
  }

  row(key, cells) {
    const known = this.rows.get(key);
    const row =
      known ??
      h(
        "tr",
        {},
        cells.map(() => h("td", {})),
      );
    this.rows.set(key, row);
    cells.forEach((cell, at) => {
      if (typeof cell === "string") write(row.children[at], cell);
      else if (cell instanceof Node) row.children[at].replaceChildren(cell);
      else if (!known) row.children[at].append(cell());
    });
    return row;
  }
}

/** Return a small table of rows that stay as they are: lists of cells, texts or nodes. */
export function table(label, headers, rows) {
  const made = new Table(label, headers);
  made.set(rows.map((cells, at) => [at, cells]));
  return made.element;
}

/** Return a part of a page with its heading; `link` is [address, text]. */
export function card(title, link, ...content) {
  return h(
    "section",
    { class: "card", "aria-label": title },
    h("header", {}, h("h2", {}, title), link && h("a", { href: link[0] }, link[1])),
    content,
  );
}

/** Return `Ingress shop/web spec.rules[0]` of an origin. */
export const originOf = ({ kind, namespace, name, field = "" }) =>
  [kind, namespace ? `${namespace}/${name}` : name, field].filter(Boolean).join(" ");

const isNotice = ({ severity }) => Number(severity === "notice");

/** Return problems with those first that cost traffic; one without a severity does. */
export const worstFirst = (problems) => [...problems].sort((a, b) => isNotice(a) - isNotice(b));

/** Return a problem: what is wrong, what Portway did, and how to mend it. */
export function problemOf(problem) {
  const tone = problem.severity === "notice" ? "warn" : "bad";
  return h(
    "li",
    { class: `problem ${tone}` },
    h(
      "p",
      { class: "problem-head" },
      pill(tone, problem.severity ?? "error"),
      h("code", {}, problem.code),
      h("span", { class: "mono breaks soft" }, originOf(problem.origin)),
    ),
    h("p", { class: "breaks" }, problem.found),
    problem.done && h("p", { class: "soft breaks" }, problem.done),
    problem.remedy &&
      h("p", { class: "mend breaks" }, h("span", { class: "mend-word" }, "Mend"), h("span", {}, problem.remedy)),
  );
}

/** Return the tone of a certificate that ends at `until`, and what is said of it. */
export function ending(until, now = Date.now() / 1000) {
  const left = until - now;
  if (left <= 0) return ["bad", `ended ${ago(until, now)}`];
  return [left < 7 * 86_400 ? "bad" : left < 30 * 86_400 ? "warn" : "ok", `${span(left)} left`];
}

/** Return certificates as rows: name, hosts, end. */
export function certificateRows(certificates) {
  return certificates.map(({ name, hosts, until, standard }) => {
    const [tone, text] = ending(until);
    return [
      h("span", { class: "mono breaks" }, name, standard && pill("quiet", "default")),
      h("span", { class: "mono breaks" }, hosts.join(" ") || "–"),
      h("span", { class: "nowrap" }, pill(tone, text), h("span", { class: "faint" }, ` ${day(until)}`)),
    ];
  });
}

/** Return how long ago a time was; `age` writes it anew as time goes by. */
const since = (at) => h("time", { class: "soft", title: moment(at), "data-at": at }, ago(at));

/** Write all that says how long ago something was. */
export function age() {
  for (const element of document.querySelectorAll("time[data-at]")) write(element, ago(Number(element.dataset.at)));
}

const causeOf = (cause) =>
  h(
    "li",
    { class: "breaks" },
    h("span", { class: "mono" }, originOf(cause)),
    ` ${cause.action}`,
    h("span", { class: "soft" }, cause.manager && ` by ${cause.manager}`, cause.place && ` in ${cause.place}`),
  );

/** Return generations as a timeline, newest first. */
export function timeline(generations) {
  const entry = ({ generation, first, at, digest, causes, more, summary, took, kept }) =>
    h(
      "li",
      {},
      h(
        "p",
        { class: "timeline-head" },
        h(
          "span",
          { class: "strong" },
          first === generation ? `Generation ${generation}` : `Generations ${first} to ${generation}`,
        ),
        since(at),
        h("code", { class: "faint" }, digest.slice(0, 10)),
        took > 0 && h("span", { class: "faint" }, `applied in ${latency(took * 1000)}`),
        kept && h("a", { href: `../history/${generation}`, class: "small" }, "what it served"),
      ),
      summary && h("p", {}, summary),
      causes.length > 0 && h("ul", { class: "causes" }, causes.map(causeOf)),
      more > 0 && h("p", { class: "faint" }, `and ${count(more, "more object")}`),
    );
  return h("ol", { class: "timeline" }, generations.map(entry));
}

/** Return a link to the explanation of a request to a route. */
export function explains({ host, path, certificate }) {
  const name = host === "*" || host === "" ? "any.example" : host.replace(/^\*/, "any");
  return address("explain", { url: `${certificate ? "https" : "http"}://${name}${path || "/"}` });
}

const FIGURES = [
  ["requests", "requests/s", rate],
  ["failed", "5xx", share],
  ["refused", "4xx", share],
  ["p50", "p50", latency],
  ["p95", "p95", latency],
  ["p99", "p99", latency],
];

/** The six figures of a route, a host or an upstream. */
export class Figures {
  constructor() {
    this.values = FIGURES.map(() => h("dd", {}, "–"));
    this.element = h(
      "dl",
      { class: "figures live-figures" },
      FIGURES.map(([, label], at) => h("div", {}, h("dt", {}, label), this.values[at])),
    );
  }

  write(figure) {
    FIGURES.forEach(([name, , text], at) =>
      write(this.values[at], figure.requests > 0 || name === "requests" ? text(figure[name]) : "–"),
    );
  }
}

/** Return facts as a list of terms; `pairs` are [term, content], and what is none is left out. */
export const facts = (...pairs) =>
  h(
    "dl",
    { class: "facts" },
    pairs.filter(Boolean).map(([term, content]) => [h("dt", {}, term), h("dd", { class: "breaks" }, content)]),
  );
