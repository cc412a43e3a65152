// The dashboard: one page that holds them all, told by one stream what it shows.

import { h, put, write } from "./dom.js";
import { ago, clock, count } from "./format.js";
import { keys } from "./keys.js";
import { age } from "./parts.js";
import { go, place } from "./places.js";
import { Store } from "./store.js";
import { themes } from "./theme.js";
import { certificates } from "./views/certificates.js";
import { explain } from "./views/explain.js";
import { flows } from "./views/flows.js";
import { generations } from "./views/generations.js";
import { hosts } from "./views/hosts.js";
import { overview } from "./views/overview.js";
import { problems } from "./views/problems.js";
import { proxies } from "./views/proxies.js";
import { routes } from "./views/routes.js";
import { upstreams } from "./views/upstreams.js";
import { get } from "./wire.js";

const PAGES = [
  ["overview", "Overview", overview],
  ["explain", "Explain", explain],
  ["routes", "Routes", routes],
  ["hosts", "Hosts", hosts],
  ["upstreams", "Upstreams", upstreams],
  ["flows", "L4 flows", flows],
  ["certificates", "Certificates", certificates],
  ["problems", "Problems", problems],
  ["generations", "Generations", generations],
  ["proxies", "Proxies", proxies],
];

// Milliseconds after which a page that nobody sees closes its connection: a browser has six for all tabs of a server.
const UNSEEN = 30_000;

const at = (id) => document.getElementById(id);
const store = new Store();
const views = new Map();
const links = new Map();
let current = null;
let remembered = [];
let unseen;
let seeking = false; // Whether the page that comes next is to begin with its search.

function show() {
  const { page, parameters } = place();
  const [name, title, make] = PAGES.find(([known]) => known === page) ?? PAGES[0];
  if (!views.has(name)) views.set(name, make(store));
  const view = views.get(name);
  if (current !== view) {
    current?.hide?.();
    put(at("view"), view.element);
    current = view;
  }
  for (const [known, { link }] of links) {
    if (known === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  links.get(name).link.scrollIntoView({ block: "nearest", inline: "center" });
  document.title = `${title} · Portway`;
  view.show(parameters);
  for (const kind of Object.keys(view.draw)) draw(kind);
  if (seeking) view.search?.focus();
  seeking = false;
}

function draw(kind) {
  current?.draw[kind]?.(kind === "generations" ? remembered : undefined);
}

function listPages() {
  for (const [name, title] of PAGES) {
    const number = h("span", { class: "count" });
    const link = h("a", { href: `#/${name}` }, title, number);
    links.set(name, { link, number, item: h("li", {}, link) });
  }
  put(
    at("pages"),
    [...links.values()].map(({ item }) => item),
  );
}

/** Write the number beside a page's name; `tone` is that of numbers that say something is wrong. */
function number(page, value, tone = "") {
  const { number: element } = links.get(page);
  write(element, value ? String(value) : "");
  element.className = `count ${value ? tone : ""}`;
}

function counts() {
  const soon = Date.now() / 1000 + 14 * 86_400;
  number("routes", store.routes.size);
  number("hosts", store.generation?.counts.hosts ?? 0);
  number("upstreams", store.upstreams.size);
  const ending = store.certificates.filter(({ until }) => until < soon).length;
  number("certificates", ending || store.certificates.length, ending ? "warn" : "");
  number("proxies", store.proxies.length);
  const all = store.problems.length + store.moreProblems;
  number("problems", all, store.problems.some(({ severity = "error" }) => severity === "error") ? "bad" : "warn");
}

function state() {
  const words = {
    connecting: "connecting",
    live: "live",
    lost: "connection lost",
    resting: "paused",
    unauthorized: "signed out",
  };
  write(at("state"), words[store.state]);
  at("state").className = `state ${{ live: "live", connecting: "", resting: "" }[store.state] ?? "lost"}`;
  document.body.classList.toggle("stale", store.state !== "live");
  at("lost").hidden = ["live", "connecting", "resting"].includes(store.state);
  const since = store.heard ? `What you see is of ${clock(store.heard)}.` : "Nothing was received yet.";
  if (store.state === "unauthorized")
    put(at("lost"), h("span", {}, `You are signed out. ${since}`), h("a", { href: "../login" }, "Sign in"));
  if (store.state === "lost") {
    put(
      at("lost"),
      h("span", {}, `${store.why || "The connection is lost."} ${since} It is tried again by itself.`),
      h("button", { type: "button", onclick: () => store.stream.now() }, "Try now"),
    );
  }
}

async function remember() {
  try {
    remembered = (await get("../history?format=json")).map((one) => ({ ...one, at: Date.parse(one.at) / 1000 }));
  } catch {
    return; // It is asked again with the next generation; what is shown stays true of those before.
  }
  draw("generations");
}

let spoken = "";
function speak() {
  const all = store.problems.length + store.moreProblems;
  const text = all ? count(all, "problem") : "no problems";
  if (spoken && spoken !== text) write(at("spoken"), `Now ${text}`);
  spoken = text;
}

store.on("state", state);
store.on("hello", () => {
  const { role, version, node } = store.hello;
  const what = { proxy: "proxy", standalone: "portway run", operator: "the fleet" }[role];
  write(at("where"), [what, node, version].filter(Boolean).join(" · "));
  links.get("proxies").item.hidden = !store.ofFleet;
  links.get("flows").item.hidden = store.ofFleet; // They are each proxy's own to tell.
});
store.on("generation", () => {
  const { number: generation, at: since } = store.generation;
  write(at("generation"), `generation ${generation}, ${ago(since)}`);
  remember();
});
store.on("problems", speak);
store.on("traffic", () =>
  write(at("generation"), store.generation ? `generation ${store.generation.number}, ${ago(store.generation.at)}` : ""),
);
for (const kind of ["table", "generation", "problems", "unwell", "proxies"]) store.on(kind, counts);
for (const kind of ["table", "generation", "problems", "unwell", "proxies", "traffic"])
  store.on(kind, () => draw(kind));

listPages();
links.get("proxies").item.hidden = true;
themes(at("theme"));
keys({
  button: at("keys"),
  pages: at("pages"),
  search: () => {
    if (current.search) current.search.focus();
    else {
      seeking = true;
      go("routes");
    }
  },
});
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});
document.addEventListener("visibilitychange", () => {
  clearTimeout(unseen);
  if (document.hidden) unseen = setTimeout(() => store.stream.rest(), UNSEEN);
  else store.stream.now();
});
setInterval(age, 1000);
addEventListener("hashchange", show);
show();
state();
store.stream.run();
