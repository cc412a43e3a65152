// Every route that is served: found by any of its words, ordered by its figures, and one of them in full.

import { h, pill } from "../dom.js";
import { latency, rate, share } from "../format.js";
import { Aside, Listing } from "../listing.js";
import { explains, facts, Figures, liveTexts, originOf, pathOf, problemOf, ready } from "../parts.js";
import { address } from "../places.js";

function columns(store) {
  const figure = liveTexts(store, "routes", ({ id }) => id);
  return [
    { title: "Host", name: "host", cell: ({ host }) => h("span", { class: "mono" }, host) },
    { title: "Path", name: "where-path", cell: pathOf },
    { title: "Upstream", name: "to", cell: ({ upstream }) => h("span", { class: "mono" }, upstream) },
    { title: "Endpoints", name: "ready", cell: ({ upstream }) => ready(store, upstream) },
    {
      title: "Policies",
      name: "does",
      cell: ({ does }) =>
        h(
          "span",
          { class: "pills" },
          does.map((text) => pill("quiet", text)),
        ),
    },
    { title: "Requests/s", name: "number rate", live: figure(({ requests }) => rate(requests)) },
    { title: "Errors", name: "number failed", live: figure(({ failed }) => share(failed)) },
    { title: "p95", name: "number p95", live: figure(({ p95 }) => latency(p95)) },
  ];
}

function aside(store) {
  const figures = new Figures();
  const make = (route) => {
    const concerns = store.problems.filter(({ origin }) =>
      `${route.origin} `.startsWith(`${originOf({ ...origin, field: "" })} `),
    );
    return [
      h("h2", { class: "breaks" }, h("span", { class: "mono" }, route.host), pathOf(route)),
      figures.element,
      facts(
        ["From", h("span", { class: "mono" }, route.origin)],
        ["Match", route.match],
        [
          "Upstream",
          [
            h("a", { class: "mono", href: address("upstreams", { q: route.upstream }) }, route.upstream),
            " ",
            ready(store, route.upstream),
          ],
        ],
        route.certificate && ["Certificate", h("span", { class: "mono" }, route.certificate)],
        [
          "Policies",
          route.does.length
            ? h(
                "ul",
                { class: "mono" },
                route.does.map((text) => h("li", {}, text)),
              )
            : "none",
        ],
      ),
      concerns.length > 0 && h("ul", { class: "problems" }, concerns.map(problemOf)),
      h("a", { class: "button", href: explains(route) }, "Explain a request to it"),
    ];
  };
  return new Aside({ label: "Route", make, refresh: (route) => figures.write(store.figure("routes", route.id)) });
}

/** The page of all routes. */
export function routes(store) {
  const figure = (route) => store.figure("routes", route.id);
  const listing = new Listing({
    page: "routes",
    title: "Routes",
    noun: ["route"],
    all: () => store.routeList,
    key: ({ id }) => id,
    text: (route) =>
      `${route.host} ${route.path} ${route.match} ${route.upstream} ${route.origin} ${route.does.join(" ")}`,
    columns: columns(store),
    orders: [
      ["", "by host and path"],
      ["requests", "most requests", (route) => figure(route).requests],
      ["failed", "most errors", (route) => figure(route).failed * figure(route).requests],
      ["p95", "slowest (p95)", (route) => figure(route).p95 ?? -1],
    ],
    aside: aside(store),
  });
  listing.draw = { table: () => listing.renew(), unwell: () => listing.renew(), traffic: () => listing.follow() };
  return listing;
}
