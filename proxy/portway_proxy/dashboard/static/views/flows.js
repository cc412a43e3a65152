// What is passed through at layer 4: on which ports, and who is connected now.

import { h, put, write } from "../dom.js";
import { bytes, span, whole } from "../format.js";
import { Listing } from "../listing.js";
import { card, ready, table } from "../parts.js";
import { Poll } from "../poll.js";
import { get } from "../wire.js";

const MOST = 1000;

/** The page of layer 4. */
export function flows(store) {
  let rows = [];
  const more = h("p", { class: "soft", role: "status" });
  const listeners = h("div", {});
  const mono = (name) => (row) => h("span", { class: "mono" }, row[name] || "–");
  const listing = new Listing({
    page: "flows",
    title: "L4 flows",
    noun: ["flow"],
    all: () => rows,
    key: (row) => `${row.listener} ${row.client}`,
    text: (row) => `${row.listener} ${row.client} ${row.upstream} ${row.endpoint}`,
    before: [card("Listeners", null, listeners), more],
    columns: [
      { title: "Listener", name: "listener", cell: mono("listener") },
      { title: "Client", name: "client", cell: mono("client") },
      { title: "Upstream", name: "to", cell: mono("upstream") },
      { title: "Endpoint", name: "endpoint", cell: mono("endpoint") },
      { title: "Age", name: "number age", live: ({ seconds }) => span(seconds) },
      { title: "Received", name: "number received", live: (row) => bytes(row.bytes_in) },
      { title: "Sent", name: "number sent", live: (row) => bytes(row.bytes_out) },
    ],
  });
  const poll = new Poll(
    async (signal) => {
      if (store.ofFleet) {
        write(more, "Who is connected is for each proxy to say: its own dashboard does.");
        return;
      }
      const page = await get(`../flows?format=json&limit=${MOST}`, { signal });
      rows = page.flows;
      write(more, page.more ? `These are the oldest; there are ${whole(page.more)} more.` : "");
      listing.find();
    },
    (error) => write(more, error.message),
  );
  const { show } = Listing.prototype;
  listing.show = (parameters) => {
    show.call(listing, parameters);
    poll.start();
  };
  listing.hide = () => poll.stop();
  listing.draw = {
    table() {
      put(
        listeners,
        store.listeners.length
          ? table(
              "Listeners",
              ["listener", "upstream", "endpoints", "from"],
              store.listeners.map((one) => [
                h("span", { class: "mono" }, one.name),
                h("span", { class: "mono breaks" }, one.upstream),
                ready(store, one.upstream),
                h("span", { class: "mono breaks soft" }, one.origin),
              ]),
            )
          : h("p", { class: "soft" }, "Nothing is passed through at layer 4."),
      );
    },
  };
  return listing;
}
