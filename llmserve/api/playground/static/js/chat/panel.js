/** The settings of a conversation: system prompt, sampling, format, tools. Each shows what the
 *  server would do without it, and is checked as it is typed. */

import { h } from "../lib/dom.js";
import { setText } from "../lib/i18n.js";
import { iconButton } from "../lib/page_controls.js";
import { NUMBERS, OptionProblem, offeredTools, requestBody, responseFormat } from "./request.js";

const EFFORTS = ["", "none", "minimal", "low", "medium", "high"];
const FORMATS = ["", "json", "schema"];
const CHOICES = ["", "auto", "required", "none"];
const TRANSPORTS = ["sse", "websocket"];

const EXAMPLE_SCHEMA = `{
  "type": "object",
  "properties": {
    "name": {"type": "string"},
    "age": {"type": "integer"}
  },
  "required": ["name", "age"],
  "additionalProperties": false
}`;
const EXAMPLE_TOOLS = `[
  {
    "type": "function",
    "function": {
      "name": "get_weather",
      "description": "The weather in a city.",
      "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": false
      }
    }
  }
]`;

export class Panel {
  /**
   * @param {HTMLElement} element
   * @param {import("./request_pane.js").RequestPane} requestPane
   * @param {{onChange: (options: Object<string, string>) => void, onTransport: (name: string) => void,
   *     onClose: () => void, transport: string}} listeners
   */
  constructor(element, requestPane, { onChange, onTransport, onClose, transport }) {
    this.fields = {};
    this.errors = {};
    this.onChange = onChange;
    this.examples = [];
    const way = picker("transport", TRANSPORTS, "transport");
    way.value = transport;
    way.addEventListener("change", () => onTransport(way.value));
    element.append(
      h(
        "div",
        { class: "panel-head" },
        h("h2", { t: "panel" }),
        iconButton("close", "close", onClose),
      ),
      h(
        "div",
        { class: "panel-body" },
        group("system", true, this.#area("system", 4, "system.hint")),
        group(
          "sampling",
          true,
          ...NUMBERS.map((field) => this.#number(field)),
          this.#area("stop", 2, "stop.hint"),
        ),
        group(
          "format",
          false,
          this.#choice("format", FORMATS),
          this.#json("schema", EXAMPLE_SCHEMA),
        ),
        group(
          "tools",
          false,
          this.#json("tools", EXAMPLE_TOOLS),
          this.#choice("tool_choice", CHOICES),
        ),
        group("answering", false, this.#choice("reasoning_effort", EFFORTS), row("transport", way)),
        group("request", false, requestPane.element),
      ),
    );
    element.querySelector("#group-request").addEventListener("toggle", () => requestPane.refresh());
    element.addEventListener("input", (event) => this.#changed(event.target));
  }

  /**
   * Show these options.
   *
   * @param {Object<string, string>} options
   */
  show(options) {
    for (const [name, field] of Object.entries(this.fields)) field.value = options[name] ?? "";
    this.#check();
  }

  /**
   * Show what the server does where a number is left open.
   *
   * @param {object|undefined} model as /v1/models has it.
   */
  showDefaults(model) {
    const defaults = model?.default_sampling ?? {};
    for (const { name } of NUMBERS) {
      const field = this.fields[name];
      const value = defaults[name];
      if (value !== undefined && value !== null) {
        field.removeAttribute("data-t-placeholder");
        field.placeholder = String(value);
      } else {
        setText(field, "placeholder", name === "seed" ? "default.random" : "default.unbounded");
      }
    }
  }

  /**
   * Bring the field of a problem into sight.
   *
   * @param {OptionProblem} problem
   */
  reveal({ option }) {
    const field = this.fields[option];
    field.closest("details").open = true;
    field.focus();
    this.#check();
  }

  get options() {
    return Object.fromEntries(
      Object.entries(this.fields)
        .map(([name, field]) => [name, field.value])
        .filter(([, value]) => value !== ""),
    );
  }

  #changed(field) {
    if (!Object.values(this.fields).includes(field)) return;
    this.#check();
    this.onChange(this.options);
  }

  /** Say of each field what is wrong with it. */
  #check() {
    const { options } = this;
    const problems = new Map();
    const noted = (read) => {
      try {
        read();
      } catch (error) {
        if (!(error instanceof OptionProblem)) throw error;
        problems.set(error.option, error);
      }
    };
    noted(() => responseFormat(options));
    noted(() => offeredTools(options));
    for (const { name } of NUMBERS) {
      noted(() => requestBody({ options: { [name]: options[name] ?? "" }, messages: [] }, ""));
    }
    for (const [name, error] of Object.entries(this.errors)) {
      const problem = problems.get(name);
      this.fields[name].setAttribute("aria-invalid", String(problem !== undefined));
      error.hidden = problem === undefined;
      if (problem) setText(error, "text", `problem.${problem.reason}`, { detail: problem.detail });
    }
    const isSchema = options.format === "schema";
    this.fields.schema.closest(".field").hidden = !isSchema;
  }

  #area(name, rows, hint) {
    const field = h("textarea", { id: `option-${name}`, rows, hint });
    this.fields[name] = field;
    return row(name, field);
  }

  #choice(name, values) {
    this.fields[name] = picker(name, values, name);
    return row(name, this.fields[name]);
  }

  #number({ name, min, max, step }) {
    const field = h("input", {
      id: `option-${name}`,
      type: "number",
      inputmode: "decimal",
      min,
      max,
      step,
    });
    return this.#checked(name, field);
  }

  #json(name, example) {
    const field = h("textarea", {
      id: `option-${name}`,
      class: "mono",
      rows: "10",
      spellcheck: "false",
    });
    const fill = () => {
      field.value = example;
      this.#changed(field);
    };
    const element = this.#checked(name, field);
    element.append(
      h("button", { type: "button", class: "quiet small", t: "example", on: { click: fill } }),
    );
    return element;
  }

  #checked(name, field) {
    this.fields[name] = field;
    const error = h("p", { id: `problem-${name}`, class: "problem", hidden: true });
    this.errors[name] = error;
    field.setAttribute("aria-describedby", error.id);
    const element = row(name, field);
    element.append(error);
    return element;
  }
}

function group(key, isOpen, ...fields) {
  return h(
    "details",
    { class: "group", id: `group-${key}`, open: isOpen },
    h("summary", { t: `group.${key}` }),
    ...fields,
  );
}

function row(name, field) {
  return h(
    "div",
    { class: `field ${field.localName}` },
    h("label", { for: field.id, t: `option.${name}` }),
    field,
  );
}

function picker(name, values, prefix) {
  const options = values.map((value) =>
    h("option", { value, t: `${prefix}.${value || "default"}` }),
  );
  return h("select", { id: `option-${name}` }, ...options);
}
