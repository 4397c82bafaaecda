/** Small line drawings, 24 by 24. */

import { svg } from "./dom.js";

const PATHS = {
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  edit: "M4 20l1-4L16.5 4.5l3 3L8 19z",
  again: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  sliders: "M5 4v7M5 15v5M12 4v3M12 11v9M19 4v10M19 18v2M3 13h4M10 9h4M17 16h4",
  key: "M15.5 4a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9M12.3 11.7L4 20h3.5v-2.5H10",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  language: "M4 12h16M12 4c-5 5-5 11 0 16M12 4c5 5 5 11 0 16M12 4a8 8 0 1 0 0 16a8 8 0 1 0 0-16",
  pulse: "M3 12h4l3-7 4 14 3-7h4",
  chat: "M4 5h16v11H9l-5 4z",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  upload: "M12 16V5M7 9l5-5 5 5M5 20h14",
  tool: "M14.5 6.5a4 4 0 0 0-5 5L4 17v3h3l5.5-5.5a4 4 0 0 0 5-5L15 12l-3-3z",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5",
};

/**
 * A drawing, which a screen reader passes over.
 *
 * @param {string} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const attributes = {
    class: `icon icon-${name}`,
    viewBox: "0 0 24 24",
    "aria-hidden": "true",
    focusable: "false",
  };
  return svg("svg", attributes, svg("path", { d: PATHS[name] }));
}
