// Areas and lines over the last minutes, drawn in SVG: one path for each series, made anew when a second has passed.

import { h, s, write } from "./dom.js";
import { clock } from "./format.js";

const WIDTH = 600;
const LEAST = 60; // Seconds that are shown at least: a page that was just opened is no one thick block.
const ROOM = 18; // Above the top of the scale, for its label.
const GAP = 4; // Seconds that are missing before a sample and make a gap in the line: the connection was lost.

function ceiling(most) {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 7.5, 10].map((step) => step * power).find((step) => step >= most);
}

/** Return the runs of samples that have a value and no gap between them, as lists of [x, y]. */
function runs(samples, key, place) {
  const found = [];
  let last = null;
  for (const sample of samples) {
    const value = sample[key];
    if (value === null || value === undefined) {
      last = null;
      continue;
    }
    if (last === null || sample.at - sample.seconds - last > GAP) found.push([]);
    found.at(-1).push(place(sample.at, value));
    last = sample.at;
  }
  return found;
}

const line = (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`;

/**
 * A chart of some `series` ({key, name, tone}) with one scale; `format` makes texts of values.
 *
 * The first series is an area when it stands alone. `least` is the smallest top of the scale.
 */
export class Chart {
  constructor({ title, series, format, height = 96, least = 0 }) {
    Object.assign(this, { title, series, format, height, least, samples: [], from: 0, until: 0 });
    this.paths = series.map(({ tone }) => ({
      area: s("path", { class: `area ${tone}` }),
      line: s("path", { class: `line ${tone}`, "vector-effect": "non-scaling-stroke" }),
    }));
    this.rule = s("line", { class: "rule", y1: 0, y2: height, "vector-effect": "non-scaling-stroke" });
    const grid = [0.5, 1].map((at) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: height * at, y2: height * at }));
    this.drawing = s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      grid,
      this.paths.map(({ area, line: stroke }) => [area, stroke]),
      this.rule,
    );
    this.top = h("span", { class: "chart-top" });
    this.begin = h("span", {});
    this.tip = h("div", { class: "chart-tip", hidden: true });
    this.element = h(
      "figure",
      { class: "chart", role: "img", "aria-label": title },
      h("div", { class: "chart-field" }, this.drawing, this.top, this.tip),
      h("div", { class: "chart-times", "aria-hidden": "true" }, this.begin, h("span", {}, "now")),
    );
    this.drawing.addEventListener("pointermove", (event) => this.point(event));
    this.drawing.addEventListener("pointerleave", () => this.unpoint());
  }

  draw(samples) {
    this.samples = samples;
    if (samples.length === 0) return;
    this.until = samples.at(-1).at;
    this.from = Math.min(samples[0].at, this.until - LEAST);
    const most = Math.max(this.least, ...samples.flatMap((one) => this.series.map(({ key }) => one[key] ?? 0)));
    const scale = ceiling(most);
    const place = (at, value) => [
      ((at - this.from) / (this.until - this.from)) * WIDTH,
      this.height - (value / scale) * (this.height - ROOM),
    ];
    this.series.forEach(({ key }, index) => {
      const found = runs(samples, key, place);
      this.paths[index].line.setAttribute("d", found.map(line).join(""));
      const areas = found.map(
        (run) => `${line(run)}L${run.at(-1)[0].toFixed(1)} ${this.height}L${run[0][0].toFixed(1)} ${this.height}Z`,
      );
      this.paths[index].area.setAttribute("d", this.series.length === 1 ? areas.join("") : "");
    });
    write(this.top, this.format(scale));
    write(this.begin, `${Math.round((this.until - this.from) / 60)} min ago`);
    this.element.setAttribute("aria-label", `${this.title}: ${this.told(samples.at(-1))}`);
  }

  told(sample) {
    return this.series.map(({ key, name }) => `${name} ${this.format(sample[key])}`).join(", ");
  }

  point(event) {
    if (this.samples.length === 0) return;
    const box = this.drawing.getBoundingClientRect();
    const at = this.from + ((event.clientX - box.left) / box.width) * (this.until - this.from);
    const near = this.samples.reduce((best, one) => (Math.abs(one.at - at) < Math.abs(best.at - at) ? one : best));
    const share = (near.at - this.from) / (this.until - this.from);
    this.rule.setAttribute("x1", share * WIDTH);
    this.rule.setAttribute("x2", share * WIDTH);
    this.rule.classList.add("shown");
    this.tip.hidden = false;
    this.tip.classList.toggle("left", share > 0.6);
    this.tip.style.left = `${share * 100}%`;
    write(this.tip, `${clock(near.at)}  ${this.told(near)}`);
  }

  unpoint() {
    this.tip.hidden = true;
    this.rule.classList.remove("shown");
  }
}
