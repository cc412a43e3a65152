// The fleet: every proxy, and what it serves.

import { h, pill } from "../dom.js";
import { ago, rate } from "../format.js";
import { Listing } from "../listing.js";

const TONES = { current: "ok", behind: "warn", rejects: "bad", away: "quiet" };

/** The page of proxies, in the operator. */
export function proxies(store) {
  const listing = new Listing({
    page: "proxies",
    title: "Proxies",
    noun: ["proxy", "proxies"],
    all: () => store.proxies,
    key: ({ name }) => name,
    text: ({ name, node, version, state, digest }) => `${name} ${node} ${version} ${state} ${digest}`,
    columns: [
      { title: "Proxy", name: "host", cell: ({ name }) => h("span", { class: "mono" }, name) },
      { title: "State", name: "state-cell", cell: ({ state }) => pill(TONES[state] ?? "quiet", state) },
      {
        title: "Serves",
        name: "serves",
        cell: ({ generation, digest }) =>
          h("span", {}, `generation ${generation} `, h("code", { class: "faint" }, digest.slice(0, 10))),
      },
      { title: "Node", name: "node", cell: ({ node }) => node || "–" },
      { title: "Version", name: "version", cell: ({ version }) => version },
      { title: "Connected", name: "number since", live: ({ since }) => (since ? ago(since) : "–") },
      { title: "Requests/s", name: "number rate", live: ({ requests }) => rate(requests) },
    ],
  });
  listing.draw = { proxies: () => listing.renew() };
  return listing;
}
