// Every upstream and its endpoints, with how they fare.

import { h, pill, put } from "../dom.js";
import { latency, rate, share, whole } from "../format.js";
import { Aside, Listing } from "../listing.js";
import { facts, Figures, liveTexts, ready, table } from "../parts.js";
import { address } from "../places.js";
import { Poll } from "../poll.js";
import { get } from "../wire.js";

const TONES = { ready: "ok", draining: "quiet", failing: "bad", ejected: "bad" };
const UNWELL = (store, { name, endpoints, external }) => {
  const unwell = store.unwell.get(name);
  return (unwell ? unwell.ejected + unwell.failing : 0) + (endpoints || external ? 0 : 1);
};

function health(store, { name }) {
  const unwell = store.unwell.get(name);
  if (!unwell) return h("span", { class: "faint" }, "–");
  return h(
    "span",
    { class: "pills" },
    unwell.ejected > 0 && pill("bad", `${unwell.ejected} ejected`),
    unwell.failing > 0 && pill("warn", `${unwell.failing} failing`),
  );
}

function endpointRow({
  address: where,
  state,
  share: part,
  retry,
  failures,
  requests,
  connections,
  idle,
  workers,
  ready: well,
}) {
  const notes = [
    state === "ejected" && retry > 0 && `asked again in ${Math.ceil(retry)} s`,
    failures > 0 && `${failures} failed in a row`,
    well > 0 && well < workers && `ready for ${well} of ${workers} workers`,
    part > 0 && part < 1 && `gets ${Math.round(part * 100)} % of a share`,
  ].filter(Boolean);
  return [
    h("span", { class: "mono breaks" }, where),
    h(
      "span",
      { class: "pills" },
      pill(TONES[state] ?? "quiet", state),
      notes.length > 0 && h("span", { class: "soft" }, notes.join(", ")),
    ),
    whole(requests),
    `${whole(connections)} (${whole(idle)} idle)`,
  ];
}

function aside(store) {
  const figures = new Figures();
  const endpoints = h("div", { class: "live-figures" });
  const poll = new Poll(
    async (signal) => {
      const name = shown.row?.name;
      if (name === undefined) return; // It is no longer served.
      const page = await get(`../upstreams?format=json&limit=200&name=${encodeURIComponent(name)}`, { signal });
      const rows = page.endpoints.filter(({ upstream }) => upstream === name);
      put(
        endpoints,
        rows.length
          ? table("Endpoints", ["endpoint", "state", "requests", "connections"], rows.map(endpointRow))
          : h("p", { class: "soft" }, "It has no endpoints."),
        page.more > 0 && h("p", { class: "soft" }, `and ${whole(page.more)} more`),
      );
    },
    (error) => put(endpoints, h("p", { class: "soft" }, error.message)),
  );
  const make = (upstream) => [
    h("h2", { class: "mono breaks" }, upstream.name),
    figures.element,
    facts(
      ["Protocol", upstream.protocol],
      ["Balance", upstream.balance],
      upstream.external && ["External name", h("span", { class: "mono" }, upstream.external)],
      upstream.reason && ["Answers with", h("code", {}, upstream.reason)],
    ),
    endpoints,
    h("a", { class: "button", href: address("routes", { q: upstream.name }) }, "Routes to it"),
  ];
  const shown = new Aside({
    label: "Upstream",
    make,
    refresh: (row) => figures.write(store.figure("upstreams", row.name)),
  });
  return { shown, poll, endpoints };
}

/** The page of all upstreams. */
export function upstreams(store) {
  const { shown, poll, endpoints } = aside(store);
  const figure = liveTexts(store, "upstreams", ({ name }) => name);
  const listing = new Listing({
    page: "upstreams",
    title: "Upstreams",
    noun: ["upstream"],
    all: () => [...store.upstreams.values()],
    key: ({ name }) => name,
    text: ({ name, protocol, balance, reason, external }) => `${name} ${protocol} ${balance} ${reason} ${external}`,
    columns: [
      { title: "Upstream", name: "upstream", cell: ({ name }) => h("span", { class: "mono" }, name) },
      { title: "Endpoints", name: "ready", cell: ({ name }) => ready(store, name) },
      { title: "Health", name: "health", cell: (row) => health(store, row) },
      { title: "Protocol", name: "protocol", cell: ({ protocol }) => protocol },
      { title: "Balance", name: "balance", cell: ({ balance }) => balance },
      { title: "Requests/s", name: "number rate", live: figure(({ requests }) => rate(requests)) },
      { title: "Errors", name: "number failed", live: figure(({ failed }) => share(failed)) },
      { title: "p95", name: "number p95", live: figure(({ p95 }) => latency(p95)) },
    ],
    orders: [
      ["", "by name"],
      ["unwell", "least well", (row) => UNWELL(store, row)],
      ["requests", "most requests", ({ name }) => store.figure("upstreams", name).requests],
    ],
    aside: shown,
    open(row) {
      put(endpoints);
      shown.open(row);
      poll.start();
    },
  });
  listing.hide = () => poll.stop();
  listing.draw = { table: () => listing.renew(), unwell: () => listing.renew(), traffic: () => listing.follow() };
  const { closed } = shown;
  shown.closed = () => {
    poll.stop();
    closed();
  };
  return listing;
}
