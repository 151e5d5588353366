// Shows openapi.json: the list of routes with search, one operation at a time, and a form that tries it.
// Nothing is loaded from elsewhere, and no text of the document is ever taken as HTML.

const METHODS = ["get", "post", "put", "patch", "delete"];
const base = new URL(".", location.href);
const one = (id) => document.getElementById(id);

/** An element; `properties` go to the element itself, strings among the children become texts. */
function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

// -- JSON: ids have 64 bits, and JavaScript's numbers do not -----------------------------------------------------------

const LONG = "\u0001";

/** Parse JSON; integers of 16 digits and more become texts with a mark, which `pretty` writes as numbers again. */
function parse(text) {
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/g, (token) =>
    token[0] === '"' ? token : `"\\u0001${token}"`));
}

const pretty = (value) => JSON.stringify(value, null, 2).replace(/"\\u0001(-?\d+)"/g, "$1");
const plain = (value) => typeof value === "string" ? value.replace(LONG, "") : pretty(value);

/** A block of code; JSON is coloured. */
function code(text, isJson = true) {
  const pre = h("pre", { tabIndex: 0 });
  if (!isJson) {
    pre.append(text);
    return pre;
  }
  const token = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g;
  let from = 0;
  for (const found of text.matchAll(token)) {
    pre.append(text.slice(from, found.index));
    const [whole, string, colon] = found;
    pre.append(h("span", { className: colon ? "k" : string ? "s" : "n" }, colon ? string : whole), colon ?? "");
    from = found.index + whole.length;
  }
  pre.append(text.slice(from));
  return pre;
}

/** The little Markdown of the document: paragraphs, `code` and **bold**. */
function prose(text) {
  return (text ?? "").split(/\n\s*\n/).filter(Boolean).map((paragraph) => h("p", { className: "prose" }, inline(paragraph)));
}

function inline(text) {
  return (text ?? "").split(/(`[^`]+`|\*\*[^*]+\*\*)/).filter(Boolean).map((part) =>
    part[0] === "`" ? h("code", {}, part.slice(1, -1))
      : part.startsWith("**") ? h("strong", {}, part.slice(2, -2)) : part);
}

/** A path that may be broken in front of its slashes. */
const breakable = (path) => path.split(/(?=\/)/).flatMap((part) => [h("wbr"), part]);

// -- Schemas -----------------------------------------------------------------------------------------------------------

class Schemas {
  constructor(components) {
    this.components = components;
  }

  /** The schema itself, and the name under which the document knows it. */
  resolve(schema) {
    if (!schema.$ref) return [schema, ""];
    const name = schema.$ref.split("/").pop();
    return [this.components.schemas[name], name];
  }

  type(schema) {
    const [resolved, name] = this.resolve(schema);
    if (name) return name;
    if (resolved.const !== undefined) return plain(JSON.stringify(resolved.const));
    if (resolved.enum) return resolved.enum.map((value) => JSON.stringify(value)).join(" | ");
    const all = resolved.anyOf ?? resolved.oneOf;
    if (all) return [...new Set(all.map((each) => this.type(each)))].join(" | ");
    if (resolved.type === "array") {
      const items = resolved.prefixItems ?? [resolved.items ?? {}];
      return `[${items.map((each) => this.type(each)).join(", ")}]`;
    }
    if (resolved.additionalProperties) return `{name: ${this.type(resolved.additionalProperties)}}`;
    const formatted = resolved.format ? ` <${resolved.format}>` : "";
    const ofFormat = resolved.format?.startsWith("int") ? "integer" : "string";
    return [resolved.type ?? "any"].flat().map((type) => type === ofFormat ? type + formatted : type).join(" | ");
  }

  rules(schema) {
    const said = [];
    if (schema.default !== undefined) said.push(`default \`${JSON.stringify(schema.default)}\``);
    // The bounds of 64-bit integers are marked texts here; they go without saying, as those of other formats do.
    if (typeof schema.minimum === "number" && schema.minimum > -(2 ** 31)) said.push(`at least \`${schema.minimum}\``);
    if (typeof schema.maximum === "number" && schema.maximum < 2 ** 31 - 1) said.push(`at most \`${schema.maximum}\``);
    if (schema.minLength) said.push("not empty");
    if (schema.maxLength) said.push(`at most \`${schema.maxLength}\` characters`);
    if (schema.minItems && !schema.prefixItems) said.push(`at least ${schema.minItems} of them`);
    if (schema.pattern) said.push(`matches \`${schema.pattern}\``);
    return said.join(", ");
  }

  /** What can be opened below a schema: its own members, and those of its items and alternatives. */
  inner(schema) {
    const [resolved] = this.resolve(schema);
    if (resolved.properties) return [resolved];
    const below = resolved.anyOf ?? resolved.oneOf ?? resolved.prefixItems
      ?? (resolved.items ? [resolved.items] : resolved.additionalProperties ? [resolved.additionalProperties] : []);
    return below.flatMap((each) => this.inner(each));
  }

  /** The members of a request, which says what must be there, or of an answer, which says what may be missing. */
  members(schema, ofAnswer = false) {
    return this.inner(schema).map((object) => h("ul", { className: "members" },
      Object.entries(object.properties).map(([name, member]) => {
        const isRequired = object.required?.includes(name) ?? false;
        const mark = isRequired === ofAnswer ? "" : ofAnswer ? "may be missing" : "required";
        return this.entry(name, member, mark, member.description, ofAnswer);
      })));
  }

  entry(name, schema, mark, description, ofAnswer = false) {
    const rules = this.rules(this.resolve(schema)[0]);
    const text = [description, rules].filter(Boolean).join(" · ");
    const inner = this.inner(schema);
    const details = inner.length ? h("details", { ontoggle: () => this.open(details, schema, ofAnswer) },
      h("summary", {}, "members")) : null;
    return h("li", {},
      h("span", { className: "name" }, name), h("span", { className: "type" }, this.type(schema)),
      mark ? h("span", { className: ofAnswer ? "type" : "needed" }, mark) : null,
      text ? h("p", {}, inline(text)) : null, details);
  }

  /** Members are made when they are looked at: a schema may contain itself. */
  open(details, schema, ofAnswer) {
    if (details.open && details.children.length === 1) details.append(...this.members(schema, ofAnswer));
  }

  words(schema, seen = new Set()) {
    const [resolved, name] = this.resolve(schema);
    if (seen.has(resolved)) return "";
    seen.add(resolved);
    const below = [...Object.values(resolved.properties ?? {}), ...(resolved.anyOf ?? []), ...(resolved.prefixItems ?? []),
      resolved.items, resolved.additionalProperties].filter((each) => each && typeof each === "object");
    return [name, ...Object.keys(resolved.properties ?? {}), ...below.map((each) => this.words(each, seen))].join(" ");
  }
}

// -- The page ----------------------------------------------------------------------------------------------------------

class Page {
  constructor(document_) {
    this.document = document_;
    this.schemas = new Schemas(document_.components);
    this.token = "";
    this.operations = Object.entries(document_.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]).map((method) => ({ path, method, ...item[method] })));
    const { responses } = document_.components;
    for (const operation of this.operations) {
      operation.responses = Object.fromEntries(Object.entries(operation.responses).map(([status, response]) =>
        [status, response.$ref ? responses[response.$ref.split("/").pop()] : response]));
      operation.words = this.words(operation);
    }
    one("version").textContent = document_.info.version;
    this.list();
    one("search").addEventListener("input", () => this.filter());
    one("menu").addEventListener("click", () => this.menu(!one("side").classList.contains("open")));
    addEventListener("hashchange", () => this.show());
    addEventListener("keydown", (event) => this.key(event));
    this.show();
  }

  words(operation) {
    const bodies = [operation.requestBody, ...Object.values(operation.responses)];
    const schemas = bodies.flatMap((body) => Object.values(body?.content ?? {})).map((content) => content.schema);
    return [operation.method, operation.path, operation.summary, operation.description, operation.tags[0],
      ...(operation.parameters ?? []).map((parameter) => parameter.name), ...Object.keys(operation.responses),
      ...schemas.map((schema) => this.schemas.words(schema))].join(" ").toLowerCase();
  }

  list() {
    one("list").replaceChildren(...this.document.tags.map((tag) => h("section", {},
      h("h2", {}, tag.name),
      h("ul", {}, this.operations.filter((operation) => operation.tags[0] === tag.name).map((operation) => {
        operation.item = h("li", {}, h("a", { href: `#${operation.operationId}` },
          h("span", { className: `method ${operation.method}` }, operation.method),
          h("span", {}, operation.summary, h("small", {}, breakable(operation.path)))));
        return operation.item;
      })))));
  }

  filter() {
    const words = one("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const operation of this.operations) {
      const fits = words.every((word) => operation.words.includes(word));
      operation.item.hidden = !fits;
      shown += fits;
    }
    for (const section of one("list").children) section.hidden = !section.querySelector("li:not([hidden])");
    one("nothing").hidden = shown > 0;
  }

  menu(open) {
    one("side").classList.toggle("open", open);
    one("menu").setAttribute("aria-expanded", open);
  }

  key(event) {
    const writes = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "/" && !writes && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.menu(true);
      one("search").focus();
    } else if (event.key === "Escape") this.menu(false);
  }

  show() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (id === "main") return;
    const operation = this.operations.find((each) => each.operationId === id);
    for (const each of this.operations) {
      const link = each.item.firstChild;
      if (each === operation) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.menu(false);
    operation?.item.scrollIntoView({ block: "nearest" });
    document.title = `${operation ? `${operation.summary} · ` : ""}NoETL server API`;
    one("main").replaceChildren(...(operation ? this.operation(operation) : this.introduction()));
    scrollTo(0, 0);
  }

  introduction() {
    const { info, tags } = this.document;
    return [h("h1", {}, info.title), ...prose(info.description), h("h2", {}, "Chapters"),
      h("ul", { className: "cards" }, tags.map((tag) => {
        const operations = this.operations.filter((operation) => operation.tags[0] === tag.name);
        return h("li", {}, h("h3", {}, h("a", { href: `#${operations[0].operationId}` }, tag.name)),
          h("p", {}, inline(tag.description)), h("p", {}, `${operations.length} route${operations.length > 1 ? "s" : ""}`));
      }))];
  }

  operation(operation) {
    const body = operation.requestBody?.content["application/json"];
    return [
      h("h1", {}, operation.summary),
      h("p", { className: "line" }, h("span", { className: `method ${operation.method}` }, operation.method),
        h("span", { className: "path" }, operation.path.split(/({\w+})/).map((part) => part[0] === "{" ? h("b", {}, part) : part)),
        operation.security ? h("span", { className: "lock" }, operation.security.length > 1
          ? "internal token, where the server is set to ask for it" : "internal token") : null,
        h("button", { type: "button", className: "jump", onclick: () => document.querySelector(".try").scrollIntoView() },
          "Try it")),
      h("div", { className: "columns" },
        h("div", {},
          prose(operation.description),
          operation.parameters ? [h("h2", {}, "Parameters"), h("ul", { className: "members" },
            operation.parameters.map((parameter) => this.schemas.entry(
              parameter.name, parameter.schema, parameter.required ? "required" : "", `${parameter.in}: ${parameter.description}`)))] : null,
          body ? [h("h2", {}, "Body"), prose(operation.requestBody.description), this.schemas.members(body.schema),
            this.examples(body)] : null,
          h("h2", {}, "Answers"), Object.entries(operation.responses).map(([status, response]) =>
            this.response(status, response))),
        h("div", { className: "aside" }, this.form(operation, body))),
    ];
  }

  response(status, response) {
    return h("details", { className: "response", open: status < 300 },
      h("summary", {}, h("span", { className: `status s${status[0]}` }, status), h("span", {}, inline(response.description))),
      h("div", {},
        Object.entries(response.content ?? {}).map(([media, content]) => [
          h("p", { className: "media" }, `${media} · ${this.schemas.type(content.schema)}`),
          this.schemas.members(content.schema, true), this.examples(content, media)]),
        this.headers(response.headers)));
  }

  headers(headers) {
    const told = Object.entries(headers ?? {}).filter(([, header]) => !header.$ref);
    return told.length ? [h("p", { className: "media" }, "headers"), h("ul", { className: "members" },
      told.map(([name, header]) => this.schemas.entry(name, header.schema, "", header.description)))] : null;
  }

  examples(content, media = "application/json") {
    const single = content.example === undefined ? [] : [{ value: content.example }];
    return [...Object.values(content.examples ?? {}), ...single].map((example) => [
      h("p", { className: "media" }, example.summary ?? "for example"),
      code(media === "application/json" ? pretty(example.value) : example.value, media === "application/json")]);
  }

  // -- Trying an operation -----------------------------------------------------------------------------------------------

  form(operation, body) {
    const fields = (operation.parameters ?? []).map((parameter) => [parameter, this.input(parameter)]);
    const text = body ? h("textarea", { spellcheck: false, value: pretty(Object.values(body.examples ?? {})[0]?.value ?? {}) }) : null;
    const token = operation.security ? h("input", { type: "password", autocomplete: "off", value: this.token,
      oninput: () => { this.token = token.value; } }) : null;
    const answer = h("div", { className: "answer", "aria-live": "polite" });
    const send = h("button", { className: "send", type: "submit" }, "Send");
    const request = () => this.request(operation, fields, text, token);
    return h("form", { className: "try", onsubmit: async (event) => {
      event.preventDefault();
      send.disabled = true;
      answer.replaceChildren(...await this.send(request()));
      send.disabled = false;
    } },
      h("h3", {}, "Try it", h("span", { className: "quiet" }, base.host)),
      fields.map(([parameter, input]) => h("label", {}, parameter.name,
        h("span", { className: "quiet" }, ` ${parameter.in}${parameter.required ? "" : ", optional"}`), input)),
      token ? h("label", {}, "token", h("span", { className: "quiet" }, " kept until this page is left"), token) : null,
      text ? h("label", {}, "body", text) : null,
      h("div", { className: "row" }, send, h("button", { type: "button",
        onclick: () => answer.replaceChildren(code(curl(request()), false)) }, "as curl")),
      answer);
  }

  input(parameter) {
    const values = parameter.schema.enum ?? (parameter.schema.type === "boolean" ? ["true", "false"] : null);
    if (values) return h("select", {}, h("option", { value: "" }, ""), values.map((value) => h("option", {}, value)));
    const example = parameter.required && parameter.example !== undefined ? plain(parameter.example) : "";
    return h("input", { value: example, required: parameter.required ?? false, spellcheck: false, autocomplete: "off",
      placeholder: parameter.example === undefined ? "" : plain(parameter.example) });
  }

  request(operation, fields, text, token) {
    const url = new URL(operation.path.slice(1).replace(/{(\w+)}/g, (_, name) =>
      encodeURIComponent(fields.find(([parameter]) => parameter.in === "path" && parameter.name === name)[1].value)), base);
    const headers = {};
    for (const [parameter, { value }] of fields) {
      if (value === "") continue;
      if (parameter.in === "query") url.searchParams.append(parameter.name, value);
      if (parameter.in === "header") headers[parameter.name] = value;
    }
    if (token?.value) headers.Authorization = `Bearer ${token.value}`;
    if (text) headers["Content-Type"] = "application/json";
    return { method: operation.method.toUpperCase(), url, headers, body: text?.value };
  }

  async send({ method, url, headers, body }) {
    const started = performance.now();
    try {
      const response = await fetch(url, { method, headers, body });
      const text = await response.text();
      const milliseconds = Math.round(performance.now() - started);
      const line = h("p", {}, h("span", { className: `status s${String(response.status)[0]}` }, String(response.status)),
        h("span", { className: "quiet" }, ` ${response.headers.get("content-type") ?? "no body"} · ${milliseconds} ms`));
      return text ? [line, shown(text, response.headers.get("content-type") ?? "")] : [line];
    } catch (error) {
      return [h("p", { className: "status s5" }, `No answer: ${error.message}`)];
    }
  }
}

function shown(text, type) {
  if (!type.startsWith("application/json")) return code(text, false);
  try {
    return code(pretty(parse(text)));
  } catch {
    return code(text, false);
  }
}

/** The request as a command line for a POSIX shell. */
function curl({ method, url, headers, body }) {
  const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
  const lines = [`curl -X ${method} ${quoted(url)}`,
    ...Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${name === "Authorization" ? "Bearer $TOKEN" : value}`)}`)];
  if (body !== undefined) lines.push(`--data-binary ${quoted(body)}`);
  return lines.join(" \\\n  ").replace("'Authorization: Bearer $TOKEN'", '"Authorization: Bearer $TOKEN"');
}

try {
  const response = await fetch(new URL("openapi.json", base));
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  new Page(parse(await response.text()));
} catch (error) {
  one("main").replaceChildren(h("h1", {}, "The document cannot be shown"), h("p", {}, error.message));
}
