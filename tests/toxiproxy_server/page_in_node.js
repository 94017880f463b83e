// Runs the page's script in Node against a server, in a document just large enough: node page_in_node.js BASE < page.html
"use strict";
const assert = require("node:assert");
const base = process.argv[2];
const html = require("node:fs").readFileSync(0, "utf8");

class FakeNode {
  constructor(tag) { Object.assign(this, { tag, own: "", children: [], listeners: {}, given: undefined }); }
  get value() { return this.given ?? (this.tag === "select" ? this.children[0].textContent : ""); }
  set value(text) { this.given = String(text); }
  get options() { return this.children; }
  get textContent() { return this.own + this.children.map((child) => child.textContent ?? child).join(" "); }
  set textContent(text) { this.own = String(text); this.children = []; }
  append(...nodes) { this.children.push(...nodes); }
  prepend(...nodes) { this.children.unshift(...nodes); }
  replaceChildren(...nodes) { this.own = ""; this.children = nodes; }
  remove(index) { if (index !== undefined) this.children.splice(index, 1); }
  addEventListener(kind, act) { this.listeners[kind] = act; }
  find(wanted) {
    if (wanted(this)) return this;
    for (const child of this.children) {
      const found = child instanceof FakeNode ? child.find(wanted) : undefined;
      if (found) return found;
    }
    return undefined;
  }
}

const ids = {};
for (const found of html.matchAll(/ id="(\w+)"/g)) ids[found[1]] = new FakeNode(found[1]);
const real = fetch;
const heard = {};
Object.assign(globalThis, {
  Node: FakeNode,
  document: { getElementById: (id) => ids[id], createElement: (tag) => new FakeNode(tag) },
  EventSource: class { addEventListener(kind, act) { heard[kind] = act; } },
  fetch: (path, options) => real(base + path, options),
});

async function until(what, said) {
  const deadline = Date.now() + 5000;
  while (!said()) {
    assert(Date.now() < deadline, `${what}: ${ids.proxies.textContent} ${ids.error.textContent}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

(async () => {
  eval(html.match(/<script>([\s\S]*?)<\/script>/)[1]);
  const shows = (text) => ids.proxies.textContent.includes(text);
  const button = (text) => ids.proxies.find((node) => node.tag === "button" && node.textContent === text);
  await until("the proxy is shown", () => shows("shown-here") && shows("enabled"));
  await until("the page is live", () => ids.state.textContent === "live");
  const form = ids.proxies.find((node) => node.tag === "form");
  form.listeners.submit({ preventDefault() {} });
  await until("a toxic is added", () => shows("latency_downstream"));
  button("Remove").listeners.click();
  await until("it is removed", () => !shows("latency_downstream"));
  const type = form.find((node) => node.tag === "select");
  type.value = "stall";
  type.listeners.change();
  form.listeners.submit({ preventDefault() {} });
  await until("a fault is added", () => shows("stall_both"));
  form.listeners.submit({ preventDefault() {} });
  await until("a refusal is shown", () => ids.error.textContent.includes("toxic already exists"));
  button("Disable").listeners.click();
  await until("it is disabled", () => shows("disabled"));
  heard.proxy_changed({ data: "{}" });
  assert(ids.log.textContent.includes("proxy_changed {}"));
  await fetch("/proxies/shown-here", { method: "DELETE" });
  const gone = new Promise((resolve) => { for (const node of ids.proxies.children) node.remove = resolve; });
  await gone;
  process.exit(0);
})();
