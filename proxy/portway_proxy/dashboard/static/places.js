// The place of a page in the address (`#/routes?q=shop`), so that whatever is looked at can be sent to somebody.

/** Return the page and its parameters that the address names. */
export function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { page: path || "overview", parameters: new URLSearchParams(query) };
}

/** Return the address of a page with parameters; empty ones are left out. */
export function address(page, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one) query.append(name, one);
  }
  return `#/${page}${query.size ? `?${query}` : ""}`;
}

export const go = (page, parameters) => location.assign(address(page, parameters));

/** Note parameters in the address without another entry in the history: a key typed in a search is no page. */
export function note(page, parameters) {
  history.replaceState(null, "", address(page, parameters));
}
