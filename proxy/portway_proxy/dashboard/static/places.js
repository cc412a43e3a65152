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

// Milliseconds. Browsers allow a hundred changes of an address in half a minute, and people type faster.
const SOON = 300;
let noting;

/** Note parameters in the address, soon, and as no entry in the history: a key typed in a search is no page. */
export function note(page, parameters) {
  clearTimeout(noting);
  noting = setTimeout(() => {
    const there = address(page, parameters);
    if (place().page === page && location.hash !== there) history.replaceState(null, "", there);
  }, SOON);
}
