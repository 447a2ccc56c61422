// The page: views, their addresses, and the line that says whether what is shown is live.

import { connect, onChange, state } from "./data.js";
import { h } from "./dom.js";
import * as containers from "./containers.js";
import * as hosts from "./hosts.js";
import * as plan from "./plan.js";
import * as problems from "./problems.js";

const VIEWS = { plan, hosts, containers, problems };
const CONNECTION = {
  connecting: "connecting",
  live: "live",
  store: "the store does not answer: changes of other hosts are not seen",
  lost: "connection lost: what you see is old; trying again",
};

const main = document.getElementById("main");
let close = () => {};
let showing = "";

function where() {
  const [name, query] = location.hash.slice(1).split("?");
  return { name: VIEWS[name] ? name : "plan", parameters: new URLSearchParams(query ?? "") };
}

// Put parameters of a view into the address, so that it can be shared; empty ones are left out.
function setParameters(values, { push = false } = {}) {
  const { name, parameters } = where();
  for (const [key, value] of Object.entries(values)) {
    if (value) parameters.set(key, value);
    else parameters.delete(key);
  }
  const query = parameters.toString();
  showing = `#${name}${query ? `?${query}` : ""}`;
  history[push ? "pushState" : "replaceState"](null, "", showing);
}

function show() {
  if (location.hash === showing && showing) return;
  const { name, parameters } = where();
  showing = location.hash;
  close();
  close = VIEWS[name].open(main, parameters, setParameters);
  document.title = `${VIEWS[name].title} – macvlan-global`;
  for (const each of document.querySelectorAll("nav a")) {
    if (each.hash === `#${name}`) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
}

function askForToken() {
  return new Promise((done) => {
    const input = h("input", { type: "password", id: "token", autocomplete: "off" });
    const form = h("form", { class: "bar", onsubmit: (event) => {
      event.preventDefault();
      showing = "";
      show();
      done(input.value.trim());
    } }, h("label", { for: "token" }, "Token of the page (macvlan-global page shows it)", input), h("button", {}, "Open"));
    close();
    close = () => {};
    main.replaceChildren(form);
    input.focus();
  });
}

onChange((topics) => {
  if (topics.has("connection")) {
    const line = document.getElementById("connection");
    line.textContent = CONNECTION[state.connection];
    line.classList.toggle("lost", state.connection !== "live");
  }
  if (state.hello) document.getElementById("host").textContent = state.hello.host;
  const count = problems.counted();
  document.getElementById("problem-count").textContent = count ? `(${count})` : "";
});

window.addEventListener("hashchange", show);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(input|select)$/i.test(document.activeElement.tagName)) {
    event.preventDefault();
    document.getElementById("filter")?.focus();
  }
});
connect(askForToken);
show();
