// What is asked of the admin server: pages, and the stream. It is fetched like a page, and is no EventSource: one of those
// never says that somebody must sign in again, and waits for minutes when nothing comes.

const SILENCE = 10_000; // Milliseconds without a byte after which the stream is lost: it is never silent for three.
const PAUSES = [500, 1000, 2000, 4000]; // Milliseconds before each next try to connect; the last one stays.

/** The server wants somebody to sign in. */
export class Unauthorized extends Error {}

/** The server answers with an error, and says why. */
export class Refused extends Error {}

/** Return the response for a path of the admin server. Raises `Unauthorized` or `Refused`, and what `fetch` does. */
async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  if (response.status === 401) throw new Unauthorized("Sign in to see this.");
  if (!response.ok) throw new Refused((await response.text()).trim() || `The server answers ${response.status}.`);
  return response;
}

/** Return what a page of the admin server says as JSON. */
export const get = async (path, options) => (await ask(path, options)).json();

/** Yield the events of a stream of Server-Sent Events as `{name, content}`; `heard` is called for every piece. */
async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => [line.split(":", 1)[0], line]));
      if (fields.data) yield { name: fields.event.slice(7), content: JSON.parse(fields.data.slice(6)) };
    }
  }
}

/**
 * The stream, for as long as the page is open: it connects again by itself, until somebody must sign in.
 *
 * `path` returns where to ask, `heard` gets each event, `told` the state: connecting, live, lost, resting or
 * unauthorized, and what the server says of it.
 */
export class Stream {
  constructor({ path, heard, told }) {
    Object.assign(this, {
      path,
      heard,
      told,
      tries: 0,
      resting: false,
      wake: () => {},
      control: new AbortController(),
    });
  }

  async run() {
    for (;;) {
      const reason = this.resting ? null : await this.once();
      if (reason instanceof Unauthorized) {
        this.told("unauthorized");
        return;
      }
      this.told(this.resting ? "resting" : "lost", reason instanceof Refused ? reason.message : "");
      await this.pause();
    }
  }

  /** Wait until the next try, or as long as nobody looks. */
  pause() {
    const milliseconds = PAUSES[Math.min(this.tries, PAUSES.length - 1)];
    this.tries += 1;
    return new Promise((resolve) => {
      const timer = this.resting ? 0 : setTimeout(resolve, milliseconds);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Connect now, and not after the pause. */
  now() {
    this.resting = false;
    this.wake();
  }

  /** Have no connection until `now`. */
  rest() {
    this.resting = true;
    this.drop();
  }

  /** Give the connection up, as if it were lost. */
  drop() {
    this.control.abort();
  }

  async once() {
    const control = new AbortController();
    this.control = control;
    let silence;
    const watch = () => {
      clearTimeout(silence);
      silence = setTimeout(() => control.abort(), SILENCE);
    };
    try {
      watch();
      this.told("connecting");
      const path = await this.path(control.signal);
      const response = await ask(path, { signal: control.signal });
      for await (const { name, content } of events(response.body, watch)) {
        this.tries = 0;
        this.heard(name, content);
      }
      return null;
    } catch (error) {
      return error;
    } finally {
      clearTimeout(silence);
      control.abort();
    }
  }
}
