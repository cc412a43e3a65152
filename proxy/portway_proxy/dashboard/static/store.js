// What the server told so far: the table of what is served, the figures of now, and the last minutes of the totals.

import { get, Stream } from "./wire.js";

const FRESH = 1600; // Milliseconds for which a row that is new or another is marked (frame.css: fresh).
const KEPT = 300; // Seconds of totals that are drawn.

const named = (kind, fields) => (row) =>
  Object.fromEntries([["kind", kind], ...fields.map((name, at) => [name, row[at]])]);
const asRoute = named("route", ["id", "host", "path", "match", "upstream", "origin", "does", "certificate"]);
const asUpstream = named("upstream", ["name", "endpoints", "reason", "external", "protocol", "balance"]);
const asCertificate = named("certificate", ["name", "hosts", "until", "standard"]);
const asListener = named("listener", ["name", "upstream", "origin"]);
const asProxy = named("proxy", ["name", "node", "version", "state", "generation", "digest", "since", "requests"]);
const asUnwell = named("unwell", ["name", "ejected", "failing"]);
const asFigure = named("figure", ["requests", "failed", "refused", "p50", "p95", "p99"]);

export const NOTHING = asFigure([0, 0, 0, null, null, null]);

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
// Hosts by their domains from the right would part shop.example from shop.example.net; people look for the name.
const inOrder = (a, b) => compare(a.host, b.host) || compare(a.path, b.path) || compare(a.match, b.match);

/** What is known; `on` calls back when something of a kind changed. */
export class Store {
  constructor() {
    this.callbacks = new Map();
    this.hello = null;
    this.generation = null;
    this.routes = new Map();
    this.upstreams = new Map();
    this.certificates = [];
    this.listeners = [];
    this.problems = [];
    this.moreProblems = 0;
    this.unwell = new Map();
    this.proxies = [];
    this.traffic = null;
    this.series = [];
    this.figures = { hosts: new Map(), routes: new Map(), upstreams: new Map() };
    this.state = "connecting";
    this.why = "";
    this.heard = 0; // When it last said anything, in seconds since 1970, by the clock of the browser.
    this.mark = "";
    this.waiting = null;
    this.sorted = null;
    this.firstFigures = true;
    this.stream = new Stream({
      path: (signal) => this.begin(signal),
      heard: (name, content) => this.hear(name, content),
      told: (state, why) => this.become(state, why),
    });
  }

  /** Call `callback` when something of `kind` changed: hello, table, problems, unwell, traffic, proxies or state. */
  on(kind, callback) {
    this.callbacks.set(kind, [...(this.callbacks.get(kind) ?? []), callback]);
  }

  /** All routes, by host and path. */
  get routeList() {
    this.sorted ??= [...this.routes.values()].sort(inOrder);
    return this.sorted;
  }

  /** Whether this is an operator, who knows what proxies report and no more of them. */
  get ofFleet() {
    return this.hello?.role === "operator";
  }

  figure(kind, name) {
    return this.figures[kind].get(name) ?? NOTHING;
  }

  tell(kind) {
    for (const callback of this.callbacks.get(kind) ?? []) callback();
  }

  become(state, why = "") {
    if (state === "connecting" && this.state === "lost") return;
    this.state = state;
    this.why = why;
    this.tell("state");
  }

  async begin(signal) {
    this.firstFigures = true;
    if (!this.mark) await this.load(signal);
    return `stream?since=${encodeURIComponent(this.mark)}`;
  }

  async load(signal) {
    const table = await get("routes", { signal });
    this.mark = table.mark;
    this.routes = new Map(table.routes.map((row) => [row[0], asRoute(row)]));
    this.upstreams = new Map(table.upstreams.map((row) => [row[0], asUpstream(row)]));
    this.certificates = table.certificates.map(asCertificate);
    this.listeners = table.listeners.map(asListener);
    this.sorted = null;
    this.tell("table");
  }

  hear(name, content) {
    this.heard = Date.now() / 1000;
    if (this.state !== "live") this.become("live");
    this[`hear_${name}`]?.(content);
  }

  hear_hello(content) {
    this.hello = content;
    this.tell("hello");
  }

  async hear_generation(content) {
    // What comes while the whole table is on its way is put upon it afterwards: it may know less.
    if (this.waiting) {
      this.waiting.push(content);
      return;
    }
    this.generation = content;
    if (content.whole) {
      this.waiting = [];
      try {
        await this.load();
      } catch {
        this.mark = "";
        this.stream.drop(); // What is here is old: begin again.
      }
      const later = this.waiting;
      this.waiting = null;
      for (const one of later) this.hear_generation(one);
    } else {
      this.change(content);
    }
    this.tell("generation");
  }

  change(content) {
    this.mark = content.mark;
    for (const id of content.routes_gone ?? []) this.routes.delete(id);
    for (const row of content.routes ?? [])
      this.routes.set(row[0], { ...asRoute(row), freshUntil: Date.now() + FRESH });
    for (const name of content.upstreams_gone ?? []) this.upstreams.delete(name);
    for (const row of content.upstreams ?? []) this.upstreams.set(row[0], asUpstream(row));
    if (content.certificates) this.certificates = content.certificates.map(asCertificate);
    if (content.listeners) this.listeners = content.listeners.map(asListener);
    this.sorted = null;
    this.tell("table");
  }

  hear_problems(content) {
    this.problems = content.problems;
    this.moreProblems = content.more;
    this.tell("problems");
  }

  hear_unwell(content) {
    this.unwell = new Map(content.upstreams.map((row) => [row[0], asUnwell(row)]));
    this.tell("unwell");
  }

  hear_proxies(content) {
    this.proxies = content.proxies.map(asProxy);
    this.tell("proxies");
  }

  hear_traffic(content) {
    this.traffic = { ...content, total: asFigure(content.total) };
    for (const [kind, figures] of Object.entries(this.figures)) {
      if (this.firstFigures) figures.clear();
      for (const [name, row] of Object.entries(content[kind])) {
        const key = kind === "routes" ? Number(name) : name;
        if (row[0] === 0) figures.delete(key);
        else figures.set(key, asFigure(row));
      }
    }
    this.firstFigures = false;
    const { at, seconds, received, sent, connections, flows, total } = this.traffic;
    this.series.push({ at, seconds, received, sent, connections, flows, ...total });
    while (this.series[0].at < at - KEPT) this.series.shift();
    this.tell("traffic");
  }
}
