// Certificates, those first that end first.

import { empty, h, put, write } from "../dom.js";
import { count } from "../format.js";
import { certificateRows, table } from "../parts.js";

/** The page of certificates. */
export function certificates(store) {
  const body = h("div", {});
  const found = h("p", { class: "soft" });
  const table_ = () => {
    write(found, count(store.certificates.length, "certificate"));
    put(
      body,
      store.certificates.length
        ? table("Certificates", ["name", "hosts", "ends"], certificateRows(store.certificates))
        : empty(
            "No certificates",
            "No Secret with a certificate is in use. TLS clients get Portway's own, which nobody trusts.",
          ),
    );
  };
  return {
    element: h(
      "div",
      { class: "page" },
      h("header", {}, h("h1", {}, "Certificates"), found),
      h("section", { class: "card", "aria-label": "Certificates" }, body),
    ),
    title: "Certificates",
    show: table_,
    draw: { table: table_ },
  };
}
