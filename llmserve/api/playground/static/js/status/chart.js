/** A small chart: its title, the values now, and lines over the last minutes. */

import { h, svg } from "../lib/dom.js";
import { setText } from "../lib/i18n.js";
import { READINGS } from "./history.js";

const WIDTH = 300;
const HEIGHT = 72;
const TOP = 6;

export class Chart {
  /**
   * @param {string} key of its title.
   * @param {{name: string, key: string}[]} lines which numbers of a point it shows, and what they
   *     are called.
   * @param {(value: number) => string} written how a value is written.
   * @param {number} [least] the scale goes up to this at least.
   */
  constructor(key, lines, written, least = 1) {
    this.lines = lines;
    this.written = written;
    this.least = least;
    this.values = lines.map(() => h("strong", { text: "–" }));
    const values = lines.map(({ key: name }, number) =>
      h(
        "span",
        { class: `value series-${number + 1}` },
        h("span", { class: "series", t: name }),
        this.values[number],
      ),
    );
    this.paths = lines.map((_, number) => svg("path", { class: `line series-${number + 1}` }));
    this.area = svg("path", { class: "area" });
    this.scale = h("span", { class: "scale" });
    const attributes = {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    };
    this.element = h(
      "article",
      { class: "chart" },
      h("h3", { t: key }),
      h("p", { class: "values" }, ...values),
      h("div", { class: "plot" }, svg("svg", attributes, this.area, ...this.paths), this.scale),
    );
  }

  /**
   * Show these points, of which the last is now.
   *
   * @param {object[]} points
   */
  show(points) {
    const now = points.at(-1);
    const all = this.lines.flatMap(({ name }) => points.map((point) => point[name] ?? 0));
    const top = nice(Math.max(this.least, ...all));
    this.scale.textContent = this.written(top);
    this.lines.forEach(({ name }, number) => {
      const value = now[name];
      if (value === null) setText(this.values[number], "text", "none");
      else {
        this.values[number].removeAttribute("data-t-text");
        this.values[number].textContent = this.written(value);
      }
      this.paths[number].setAttribute("d", pathOf(points, name, top));
    });
    const line = pathOf(points, this.lines[0].name, top, true);
    this.area.setAttribute(
      "d",
      line === "" ? "" : `${line}L${WIDTH} ${HEIGHT}L${xOf(points, 0)} ${HEIGHT}Z`,
    );
  }
}

/** The newest point is at the right edge. A value that is not known leaves a gap. */
function pathOf(points, name, top, isWhole = false) {
  let path = "";
  let isDown = false;
  points.forEach((point, number) => {
    const value = isWhole ? (point[name] ?? 0) : point[name];
    if (value !== null) {
      const y = HEIGHT - 1 - (value / top) * (HEIGHT - TOP - 1);
      path += `${isDown ? "L" : "M"}${xOf(points, number)} ${y.toFixed(1)}`;
    }
    isDown = value !== null;
  });
  return path;
}

function xOf(points, number) {
  return (WIDTH - ((points.length - 1 - number) / (READINGS - 1)) * WIDTH).toFixed(1);
}

/** The next number of which people say that it is round. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((round) => round >= value * 0.999);
}
