// How it fares, at a glance.

import { Chart } from "../chart.js";
import { empty, h, pill, put, write } from "../dom.js";
import { bytes, count, latency, rate, share, whole } from "../format.js";
import { card, certificateRows, explains, failing, problemOf, Table, table, timeline, worstFirst } from "../parts.js";
import { address, go } from "../places.js";

const BUSIEST = 8;

function tile(title, chart, legend) {
  const value = h("span", { class: "tile-value" }, "–");
  const unit = h("span", { class: "tile-unit" });
  const element = h(
    "section",
    { class: "tile", "aria-label": title },
    h("h2", {}, title),
    h("p", { class: "tile-figure" }, value, unit),
    chart.element,
    legend,
  );
  return { element, chart, say: (text, rest) => (write(value, text), write(unit, rest)) };
}

const legend = (...entries) =>
  h(
    "p",
    { class: "legend" },
    entries.map(([tone, text]) => h("span", {}, h("i", { class: `dot ${tone}` }), text)),
  );

function tiles() {
  return {
    requests: tile(
      "Requests",
      new Chart({
        title: "Requests a second",
        format: rate,
        series: [{ key: "requests", name: "requests a second", tone: "one" }],
        least: 1,
      }),
    ),
    errors: tile(
      "Errors",
      new Chart({
        title: "Share of errors",
        format: share,
        least: 0.01,
        series: [
          { key: "failed", name: "failed", tone: "bad" },
          { key: "refused", name: "refused", tone: "three" },
        ],
      }),
      legend(["bad", "5xx"], ["three", "4xx"]),
    ),
    latency: tile(
      "Latency",
      new Chart({
        title: "Latency",
        format: latency,
        least: 1,
        series: [
          { key: "p50", name: "p50", tone: "one" },
          { key: "p95", name: "p95", tone: "two" },
          { key: "p99", name: "p99", tone: "three" },
        ],
      }),
      legend(["one", "p50"], ["two", "p95"], ["three", "p99"]),
    ),
    bytes: tile(
      "Traffic",
      new Chart({
        title: "Bytes a second",
        format: (number) => `${bytes(number)}/s`,
        least: 1000,
        series: [
          { key: "sent", name: "sent", tone: "one" },
          { key: "received", name: "received", tone: "two" },
        ],
      }),
      legend(["one", "sent"], ["two", "received"]),
    ),
  };
}

/** Return a bar whose length is a share of 1. */
function bar(part) {
  const full = h("i", {});
  full.style.width = `${Math.max(2, part * 100)}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, full);
}

function busiest(figures, named) {
  const rows = [...figures].sort(([, a], [, b]) => b.requests - a.requests).slice(0, BUSIEST);
  const most = rows[0]?.[1].requests || 1;
  return rows.map(([key, figure]) => [
    key,
    [
      () => named(key),
      h("span", { class: "with-bar" }, bar(figure.requests / most), rate(figure.requests)),
      pill(failing(figure.failed), share(figure.failed)),
      latency(figure.p50),
      latency(figure.p95),
      latency(figure.p99),
    ],
  ]);
}

/** The first page. */
export function overview(store) {
  const charts = tiles();
  const headers = ["requests/s", "errors", "p50", "p95", "p99"];
  const busy = {
    routes: new Table("Busiest routes", ["route", ...headers]),
    hosts: new Table("Busiest hosts", ["host", ...headers]),
  };
  const idle = empty("No requests", "The routes and hosts that get requests are listed here, the busiest first.");
  const problems = h("div", {});
  const health = h("div", {});
  const certificates = h("div", {});
  const generations = h("div", {});
  const url = h("input", {
    type: "text",
    inputmode: "url",
    name: "url",
    "aria-label": "URL to explain",
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "off",
    placeholder: "https://shop.example/cart",
  });
  const ask = h(
    "form",
    { class: "ask", onsubmit: (event) => (event.preventDefault(), go("explain", { url: url.value })) },
    url,
    h("button", { type: "submit" }, "Explain"),
  );
  const counts = h("p", { class: "soft" });
  const element = h(
    "div",
    { class: "page overview" },
    h("header", {}, h("h1", {}, "Overview"), counts, ask),
    h(
      "div",
      { class: "tiles live-figures" },
      Object.values(charts).map((one) => one.element),
    ),
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "column" },
        card(
          "Busiest routes",
          [address("routes", { sort: "requests" }), "all routes"],
          h("div", { class: "live-figures" }, busy.routes.element),
          idle,
        ),
        card("Busiest hosts", [address("hosts"), "all hosts"], h("div", { class: "live-figures" }, busy.hosts.element)),
      ),
      h(
        "div",
        { class: "column" },
        card("Problems", [address("problems"), "all problems"], problems),
        card("Endpoints", [address("upstreams"), "all upstreams"], health),
        card("Certificates", [address("certificates"), "all certificates"], certificates),
        card("Generations", [address("generations"), "all generations"], generations),
      ),
    ),
  );

  const routeOf = (id) => {
    const route = store.routes.get(id);
    return h("a", { class: "mono breaks quiet-link", href: explains(route) }, `${route.host}${route.path}`);
  };
  const hostOf = (name) => h("a", { class: "mono breaks quiet-link", href: address("routes", { q: name }) }, name);

  const draw = {
    traffic() {
      if (store.traffic === null) return;
      const { total, connections, flows, sent, received } = store.traffic;
      charts.requests.say(rate(total.requests), `/s · ${count(connections, "client")}`);
      charts.errors.say(share(total.failed), ` failed · ${share(total.refused)} refused`);
      charts.latency.say(latency(total.p95), ` p95 · ${latency(total.p50)} p50`);
      charts.bytes.say(`${bytes(sent + received)}/s`, ` · ${count(flows, "flow")}`);
      for (const { chart } of Object.values(charts)) chart.draw(store.series);
      const known = [...store.figures.routes].filter(([id]) => store.routes.has(id));
      busy.routes.set(busiest(known, routeOf));
      busy.hosts.set(busiest(store.figures.hosts, hostOf));
      idle.hidden = known.length > 0;
    },
    table() {
      const counted = store.generation?.counts;
      write(
        counts,
        counted
          ? [
              count(counted.hosts, "host"),
              count(counted.routes, "route"),
              count(counted.upstreams, "upstream"),
              count(counted.endpoints, "endpoint"),
              count(counted.listeners, "L4 listener"),
            ].join(" · ")
          : "",
      );
      const rows = certificateRows(store.certificates.slice(0, 4)).map(([name, , end]) => [name, end]);
      put(
        certificates,
        rows.length
          ? table("Certificates", ["name", "ends"], rows)
          : empty("No certificates", "Nothing is served over TLS by a certificate of yours."),
      );
      draw.unwell(); // An upstream without endpoints is not well either.
    },
    problems() {
      put(
        problems,
        store.problems.length
          ? h("ul", { class: "problems" }, worstFirst(store.problems).slice(0, 3).map(problemOf))
          : h("p", { class: "fine" }, pill("ok", "none"), " Everything that was asked for is served."),
      );
    },
    unwell() {
      const lacking = [...store.upstreams.values()].filter(({ endpoints, external }) => !endpoints && !external);
      const rows = [
        ...[...store.unwell.values()].map(({ name, ejected, failing: fails }) => [
          name,
          [
            ejected > 0 && pill("bad", `${whole(ejected)} ejected`),
            fails > 0 && pill("warn", `${whole(fails)} failing`),
          ],
        ]),
        ...lacking.map(({ name, reason }) => [name, pill("bad", reason || "no endpoints")]),
      ].slice(0, 6);
      put(
        health,
        rows.length
          ? table(
              "Endpoints that are not well",
              ["upstream", "state"],
              rows.map(([name, state]) => [
                h("a", { class: "mono breaks quiet-link", href: address("upstreams", { q: name }) }, name),
                h("span", { class: "pills" }, state),
              ]),
            )
          : h(
              "p",
              { class: "fine" },
              pill("ok", "all well"),
              ` ${count(store.generation?.counts.endpoints ?? 0, "endpoint")} of ${count(store.upstreams.size, "upstream")}.`,
            ),
      );
    },
    generations(list) {
      put(generations, list.length ? timeline(list.slice(0, 4)) : h("p", { class: "soft" }, "Nothing was served yet."));
    },
  };
  return { element, title: "Overview", draw, show: () => {} };
}
