// Every host, with the figures of all its routes.

import { h, pill } from "../dom.js";
import { latency, rate, share } from "../format.js";
import { Listing } from "../listing.js";
import { ending, liveTexts } from "../parts.js";
import { go } from "../places.js";

function hostsOf(store) {
  const certificates = new Map(store.certificates.map((one) => [one.name, one]));
  const found = new Map();
  for (const route of store.routeList) {
    const host = found.get(route.host) ?? {
      host: route.host,
      routes: 0,
      certificate: certificates.get(route.certificate),
    };
    host.routes += 1;
    found.set(route.host, host);
  }
  return [...found.values()];
}

const certified = ({ certificate }) =>
  certificate
    ? h("span", { class: "pills" }, pill(...ending(certificate.until)), h("span", { class: "mono" }, certificate.name))
    : h("span", { class: "faint" }, "–");

/** The page of all hosts. */
export function hosts(store) {
  let known = null;
  const figure = liveTexts(store, "hosts", ({ host }) => host);
  const listing = new Listing({
    page: "hosts",
    title: "Hosts",
    noun: ["host"],
    all: () => (known ??= hostsOf(store)),
    key: ({ host }) => host,
    text: ({ host, certificate }) => `${host} ${certificate?.name ?? ""}`,
    open: ({ host }) => go("routes", { q: host }),
    columns: [
      { title: "Host", name: "host", cell: ({ host }) => h("span", { class: "mono" }, host) },
      { title: "Routes", name: "number routes", cell: ({ routes }) => String(routes) },
      { title: "Certificate", name: "certificate", cell: certified },
      { title: "Requests/s", name: "number rate", live: figure(({ requests }) => rate(requests)) },
      { title: "Errors", name: "number failed", live: figure(({ failed }) => share(failed)) },
      { title: "p50", name: "number p50", live: figure(({ p50 }) => latency(p50)) },
      { title: "p95", name: "number p95", live: figure(({ p95 }) => latency(p95)) },
      { title: "p99", name: "number p99", live: figure(({ p99 }) => latency(p99)) },
    ],
  });
  listing.draw = {
    table() {
      known = null;
      listing.renew();
    },
    traffic: () => listing.refresh(),
  };
  return listing;
}
