// Figures and times as people read them.

const WHOLE = new Intl.NumberFormat("en");
const UNITS = [
  ["year", 31_557_600],
  ["month", 2_629_800],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];
const SHORT = { year: "y", month: "mo", day: "d", hour: "h", minute: "min", second: "s" };

export const whole = (number) => WHOLE.format(Math.round(number));

/** Return `1,234`, `12.3` or `0.4` of something a second: no more figures than can be told apart. */
export function rate(number) {
  if (number === 0) return "0";
  if (number < 9.95) return number < 0.05 ? "<0.1" : number.toFixed(1);
  return whole(number);
}

/** Return a share of 1 as `0 %`, `0.03 %`, `2.5 %` or `40 %`. */
export function share(number) {
  const percent = number * 100;
  if (percent === 0) return "0 %";
  if (percent < 0.01) return "<0.01 %";
  return `${percent < 0.995 ? percent.toFixed(2) : percent < 9.95 ? percent.toFixed(1) : Math.round(percent)} %`;
}

/** Return milliseconds as `0.8 ms`, `12 ms` or `1.4 s`; a dash where nothing was measured. */
export function latency(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 1000) return `${ms < 10_000 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000)} s`;
  return `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/** Return bytes as `640 B`, `1.2 MB`. */
export function bytes(number) {
  let unit = 0;
  while (number >= 1000 && unit < 4) {
    number /= 1000;
    unit += 1;
  }
  return `${unit && number < 10 ? number.toFixed(1) : Math.round(number)} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
}

/** Return seconds as `3 d 4 h`, `2 min 5 s`: the two largest units. */
export function span(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [name, size] of UNITS) {
    const count = Math.floor(left / size);
    if (count === 0 && parts.length === 0 && size > 1) continue;
    if (count > 0 || parts.length === 0) parts.push(`${count} ${SHORT[name]}`);
    left -= count * size;
    if (parts.length === 2 || size === 1) break;
  }
  return parts.join(" ");
}

/** Return how long ago, or how far ahead, a time in seconds since 1970 is: `5 min ago`, `in 30 d`. */
export function ago(time, now = Date.now() / 1000) {
  const passed = now - time;
  const about = UNITS.find(([, size]) => Math.abs(passed) >= size) ?? UNITS.at(-1);
  const text = `${Math.floor(Math.abs(passed) / about[1])} ${SHORT[about[0]]}`;
  if (Math.abs(passed) < 1) return "now";
  return passed > 0 ? `${text} ago` : `in ${text}`;
}

export const clock = (time) => new Date(time * 1000).toLocaleTimeString("en-GB");

/** Return the local date and time of a time in seconds since 1970: `2026-11-23 15:04:05`. */
export function moment(time) {
  const at = new Date(time * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export const day = (time) => moment(time).slice(0, 10);

/** Return `1 route`, `2 routes`, `3 proxies`. */
export const count = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;
