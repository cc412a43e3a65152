// Why a request is served as it is: its way from the listener to the endpoint, with what was chosen and what was not.

import { h, pill, put, write } from "../dom.js";
import { clock, count } from "../format.js";
import { card, facts, table } from "../parts.js";
import { address } from "../places.js";
import { get } from "../wire.js";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const NAMES = {
  request: "Request",
  listener: "Listener",
  certificate: "Certificate",
  client: "Client",
  host: "Host",
  route: "Route",
  policy: "Policies",
  upstream: "Upstream",
  endpoint: "Endpoint",
};
const ENDS = {
  forward: "Forwarded",
  answer: "Answered here",
  passthrough: "Passed through",
  relay: "Relayed",
  refuse: "Refused",
};
const STATES = { ready: "ok", draining: "quiet", failing: "bad", ejected: "bad" };

const toneOf = ({ kind, status }) => (kind === "refuse" || status >= 400 ? "bad" : status >= 300 ? "warn" : "ok");

function boxOf({ stage, chosen, why, origin, passed_over: rivals, more }) {
  const others = rivals.length + more;
  return h(
    "li",
    { class: `stage ${stage}` },
    h(
      "div",
      { class: "box" },
      h("p", { class: "stage-name" }, NAMES[stage] ?? stage),
      h("p", { class: "chosen mono breaks" }, chosen || "-"),
      why && h("p", { class: "soft breaks" }, why),
      origin && h("p", { class: "origin mono breaks" }, origin),
    ),
    others > 0 &&
      h(
        "details",
        { class: "rivals", open: others <= 4 },
        h("summary", {}, `${count(others, "other")} passed over`),
        h(
          "ul",
          {},
          rivals.map(({ name, why: lost }) =>
            h("li", {}, h("span", { class: "rival mono breaks" }, name), h("span", { class: "soft breaks" }, lost)),
          ),
          more > 0 && h("li", { class: "faint" }, `and ${more} more`),
        ),
      ),
  );
}

const wordOf = ({ kind, status }) => (status ? `${ENDS[kind] ?? kind}: ${status}` : (ENDS[kind] ?? kind));

function otherwiseOf({ when, kind, status = 0, reason, location: to, upstream }) {
  return h(
    "li",
    { class: "breaks" },
    "or, when ",
    when,
    ": ",
    pill(toneOf({ kind, status }), wordOf({ kind, status })),
    " ",
    reason && h("code", {}, reason),
    " ",
    h("span", { class: "mono" }, to || upstream || ""),
  );
}

/** Return what becomes of the request, and what to change if that is an error. */
function verdictOf(outcome) {
  return h(
    "section",
    { class: `outcome ${toneOf(outcome)}`, "aria-label": "Outcome" },
    h(
      "p",
      { class: "outcome-head" },
      h("span", { class: "outcome-word" }, wordOf(outcome)),
      outcome.reason && h("code", {}, outcome.reason),
      outcome.location && h("span", { class: "breaks" }, "to ", h("span", { class: "mono" }, outcome.location)),
    ),
    outcome.says && h("p", { class: "breaks" }, outcome.says),
    outcome.mend &&
      h("p", { class: "mend breaks" }, h("span", { class: "mend-word" }, "Mend"), h("span", {}, outcome.mend)),
    outcome.otherwise.length > 0 && h("ul", { class: "otherwise" }, outcome.otherwise.map(otherwiseOf)),
  );
}

function endOf(outcome) {
  return h(
    "li",
    { class: "stage end" },
    h(
      "div",
      { class: `box end-box ${toneOf(outcome)}` },
      h("p", { class: "stage-name" }, "Outcome"),
      h("p", { class: "chosen breaks" }, wordOf(outcome)),
      outcome.endpoint && h("p", { class: "mono breaks" }, outcome.endpoint),
    ),
  );
}

function policyOf({ name, value, source, does }) {
  // Most values begin with the name of what they are of.
  const whole = value.startsWith(name.replaceAll("_", "-")) ? value : `${name} ${value}`;
  return h(
    "li",
    {},
    h("p", { class: "mono strong breaks" }, whole),
    does && h("p", { class: "breaks" }, does),
    source && h("p", { class: "small faint breaks" }, `from ${source}`),
  );
}

function besides({ policies, endpoints, head, answer, generation }) {
  const parts = [];
  if (policies.length) {
    parts.push(card("Policies", null, h("ul", { class: "policies" }, policies.map(policyOf))));
  }
  if (endpoints.length) {
    const rows = endpoints.map(({ address: where, state, connections }) => [
      h("span", { class: "mono" }, where),
      pill(STATES[state] ?? "quiet", state),
      connections === null ? "–" : String(connections),
    ]);
    parts.push(card("Endpoints", null, table("Endpoints of the upstream", ["endpoint", "state", "connections"], rows)));
  }
  const heads = [
    ["What reaches the endpoint", head],
    ["What the client gets", answer],
  ];
  for (const [title, text] of heads) {
    if (text)
      parts.push(card(title, null, h("pre", { tabindex: 0, role: "region", "aria-label": `${title}: head` }, text)));
  }
  return h(
    "div",
    { class: "column" },
    parts,
    generation > 0 && h("p", { class: "faint" }, `As of generation ${generation}, ${clock(Date.now() / 1000)}.`),
  );
}

function explained(explanation) {
  return [
    verdictOf(explanation.outcome),
    h(
      "div",
      { class: "columns explained" },
      h(
        "ol",
        { class: "way", "aria-label": "The way of the request" },
        explanation.stages.map(boxOf),
        endOf(explanation.outcome),
      ),
      besides(explanation),
    ),
  ];
}

/** The page that explains a request. */
export function explain() {
  const method = h(
    "select",
    { name: "method", "aria-label": "Method" },
    METHODS.map((name) => h("option", {}, name)),
  );
  const url = h("input", {
    type: "text",
    inputmode: "url",
    name: "url",
    id: "explain-url",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "off",
    "aria-label": "URL",
    placeholder: "https://shop.example/cart?item=7, or tcp://:5432",
  });
  const fields = h("textarea", {
    name: "header",
    rows: 2,
    spellcheck: "false",
    "aria-label": "Request header lines",
    placeholder: "Cookie: group=b",
  });
  const client = h("input", {
    type: "text",
    name: "client",
    autocomplete: "off",
    spellcheck: "false",
    "aria-label": "Address of the client",
    placeholder: "203.0.113.7",
  });
  const result = h("div", { class: "result" });
  const said = h("p", { class: "spoken", role: "status" });
  const more = h(
    "details",
    { class: "more" },
    h("summary", {}, "Header lines and client"),
    facts(["Header lines", fields], ["Client address", client]),
  );
  const form = h(
    "form",
    {
      class: "question",
      onsubmit(event) {
        event.preventDefault();
        const there = address("explain", {
          method: method.value === "GET" ? "" : method.value,
          url: url.value.trim(),
          header: lines(),
          client: client.value.trim(),
        });
        if (location.hash === there) ask();
        else location.assign(there);
      },
    },
    h("div", { class: "line" }, method, url, h("button", { type: "submit" }, "Explain")),
    more,
  );
  const lines = () => fields.value.split("\n").filter((line) => line.trim());
  let asked = null;

  async function ask() {
    asked?.abort();
    asked = new AbortController();
    const { signal } = asked;
    if (!url.value.trim()) return;
    const query = new URLSearchParams({ format: "json", method: method.value, url: url.value.trim() });
    for (const line of lines()) query.append("header", line);
    if (client.value.trim()) query.set("client_ip", client.value.trim());
    try {
      const explanation = await get(`../explain?${query}`, { signal });
      put(result, explained(explanation));
      write(
        said,
        `${ENDS[explanation.outcome.kind] ?? ""} ${explanation.outcome.status || ""} ${explanation.outcome.says}`,
      );
    } catch (error) {
      if (!signal.aborted) put(result, h("p", { class: "wrong breaks", role: "alert" }, error.message));
    }
  }

  return {
    element: h(
      "div",
      { class: "page" },
      h(
        "header",
        {},
        h("h1", {}, "Explain"),
        h("p", { class: "soft" }, "What becomes of a request, and why. Nothing is sent to anybody."),
      ),
      form,
      said,
      result,
    ),
    title: "Explain",
    search: url,
    show(parameters) {
      method.value = METHODS.includes(parameters.get("method")) ? parameters.get("method") : "GET";
      url.value = parameters.get("url") ?? "";
      fields.value = parameters.getAll("header").join("\n");
      client.value = parameters.get("client") ?? "";
      more.open = Boolean(fields.value || client.value);
      if (!url.value) put(result);
    },
    draw: { table: ask, unwell: ask },
  };
}
