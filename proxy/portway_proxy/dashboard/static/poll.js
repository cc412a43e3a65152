// Pages that are asked for again and again, as long as somebody looks at what they say.

const EVERY = 2000; // Milliseconds from one answer to the next question.

/** Ask every two seconds from `start` to `stop`; `ask` gets a signal, `failed` the error of a question. */
export class Poll {
  constructor(ask, failed) {
    Object.assign(this, { ask, failed, control: null });
  }

  start() {
    this.stop();
    this.control = new AbortController();
    this.run(this.control.signal);
  }

  stop() {
    this.control?.abort();
    this.control = null;
  }

  async run(signal) {
    while (!signal.aborted) {
      try {
        await this.ask(signal);
      } catch (error) {
        if (!signal.aborted) this.failed(error);
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY));
    }
  }
}
