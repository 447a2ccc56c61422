// What the page knows: read once, then kept up to date by the stream of events. See /api/openapi.json for the fields.

import { key } from "./ip.js";

const EVENTS_MOST = 500;
const QUIET_SECONDS = 25; // the server sends something every ten
const REST = 10; // times as long as reading a path took, until it is read again
const SETTLE_SECONDS = 3; // so long a hello that is not live is waited on, before what answers is read
const UNKNOWN = "The store does not answer: it is not known who has which address.";

export const state = {
  connection: "connecting",
  hello: null, // host, version, cluster, watching
  engine: "", // version of this host's engine, where there is no list of hosts
  networks: [],
  hosts: [],
  conflicts: [],
  remembered: [],
  reports: new Map(), // by id of the host
  addresses: new Map(), // by space and address
  events: [], // what came and went since the page was opened, the latest first
  missing: "reading", // why no addresses are shown: they are being read, or cannot be; "" once they were read
  loaded: false, // what is known can be shown
  complete: false, // all was read once: what differs from then on is news
};

const listeners = new Set();
const changed = new Set();
let token = "";
let sorted = null;

export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// Tell listeners of topics, once for each frame.
function tell(...topics) {
  if (!changed.size) setTimeout(() => {
    const told = new Set(changed);
    changed.clear();
    for (const each of listeners) each(told);
  }, 16);
  for (const each of topics) changed.add(each);
}

// Rows of addresses, in the order of addresses.
export function rows() {
  sorted ??= [...state.addresses.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return sorted;
}

const idOf = (row) => `${row.space} ${row.address}`;

function prepared(row) {
  row.key = key(row.address);
  row.id = idOf(row);
  row.text = `${row.address} ${row.network} ${row.kind} ${row.holder} ${row.mac} ${row.host}`.toLowerCase();
  return row;
}

// ------------------------------------------------------------------- events

const holder = (row) => `${row.holder || row.kind}${row.host ? ` on ${row.host}` : ""}`;

function note(kind, text) {
  state.events.unshift({ at: Date.now() / 1000, kind, text });
  state.events.length = Math.min(state.events.length, EVENTS_MOST);
  tell("events");
}

// A reservation is no news: a container that has it follows at once, or it is given back.
function noteAddress(was, is) {
  if (!state.complete) return;
  const [before, after] = [was, is].map((row) => (row && row.kind !== "reserved" ? row : null));
  if (!before && !after) return;
  if (!before) note("came", `${after.address} (${after.network}) is held: ${holder(after)}`);
  else if (!after) note("went", `${before.address} (${before.network}) is free: it was ${holder(before)}`);
  else if (before.holder !== after.holder || before.host !== after.host || before.kind !== after.kind) {
    note("changed", `${after.address} (${after.network}) was ${holder(before)}, is ${holder(after)}`);
  }
}

// Note what is new in a list and what is not in it any more.
function noteList(before, after, name) {
  if (!state.complete) return;
  const old = new Set(before), now = new Set(after);
  for (const each of now) if (!old.has(each)) note("came", `${name}: ${each}`);
  for (const each of old) if (!now.has(each)) note("went", `${name}: ${each}`);
}

const inWords = (conflict) => `${conflict.address} of ${conflict.holder}: ${conflict.mac} ${conflict.how} it`;

// ------------------------------------------------------------------ reading

async function ask(path) {
  const answer = await fetch(`/api/${path}`, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  if (answer.status === 401) throw new NeedsToken();
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.message);
  return body;
}

class NeedsToken extends Error {}

// Events that come while a path is read may be newer than its answer. They wait here, by path, to be taken once more.
const heard = new Map();

function hear(path, event) {
  heard.get(path)?.push(event);
}

async function askAndHear(path) {
  const meanwhile = [];
  heard.set(path, meanwhile);
  try {
    return { found: await ask(path), meanwhile };
  } finally {
    heard.delete(path);
  }
}

const readers = {
  async networks() {
    const names = JSON.stringify(state.networks.map((each) => [each.id, each.name]));
    state.networks = await ask("networks");
    const renamed = names !== JSON.stringify(state.networks.map((each) => [each.id, each.name]));
    if (state.complete && state.hello.live && renamed) await read("addresses");
  },
  async hosts() {
    if (!state.hello?.cluster) {
      state.engine = (await ask("status")).engine;
      return;
    }
    const before = state.hosts.map((each) => `${each.name} is ${each.state}`);
    state.hosts = await ask("hosts");
    if (before.length) noteList(before, state.hosts.map((each) => `${each.name} is ${each.state}`), "host");
  },
  async reports() {
    const { found, meanwhile } = await askAndHear("reports");
    const newer = new Set(meanwhile.map((each) => each.id));
    for (const each of found) if (!newer.has(each.id)) takeReport(each);
    if (!state.hello.live) return; // those of other hosts are missing
    const ids = new Set(found.map((each) => each.id));
    for (const id of state.reports.keys()) if (!ids.has(id) && !newer.has(id)) state.reports.delete(id);
  },
  async conflicts() {
    if (!state.hello?.watching) return;
    const before = state.conflicts.map(inWords);
    state.conflicts = await ask("conflicts");
    noteList(before, state.conflicts.map(inWords), "conflict");
  },
  async "addresses/remembered"() {
    state.remembered = (await ask("addresses/remembered")).map((each) => ({ ...each, key: key(each.address) }));
  },
  async addresses() {
    const { found, meanwhile } = await askAndHear("addresses");
    const before = state.addresses;
    state.addresses = new Map(found.map((row) => [idOf(row), prepared(row)]));
    for (const { put, gone } of meanwhile) {
      for (const row of put) state.addresses.set(row.id, row);
      for (const each of gone) state.addresses.delete(idOf(each));
    }
    sorted = null;
    state.missing = "";
    if (!state.complete) return;
    for (const [id, row] of state.addresses) noteAddress(before.get(id), row);
    for (const [id, row] of before) if (!state.addresses.has(id)) noteAddress(row, null);
  },
};

const reading = new Map();

// Read one path anew. What is asked for while it is being read is read once more after that; and what took long is not
// read again at once, since the driver has other things to do.
export function read(topic) {
  const running = reading.get(topic);
  if (running) {
    running.again = true;
    return running.done;
  }
  const entry = { again: false };
  entry.done = (async () => {
    do {
      entry.again = false;
      const begun = performance.now();
      try {
        await readers[topic]();
      } catch (error) {
        if (entry.again) continue; // it was asked for before it failed: the store may be back
        throw error;
      }
      tell(topic);
      if (entry.again) await new Promise((done) => setTimeout(done, (performance.now() - begun) * REST));
    } while (entry.again);
  })().finally(() => reading.delete(topic));
  reading.set(topic, entry);
  return entry.done;
}

// Addresses first: they are most of what there is, and what most look for.
async function readAll() {
  await Promise.all(["addresses", "reports", "conflicts"].map(read));
  await read("networks");
  state.loaded = state.complete = true;
  tell("loaded");
  await Promise.all(["hosts", "addresses/remembered"].map(read));
}

// While the store does not answer: what this host knows by itself is shown, and all else if it can be read after all.
async function readWhatAnswers() {
  const others = ["addresses", "hosts", "addresses/remembered"].map(attempt);
  await Promise.all(["networks", "reports", "conflicts"].map(attempt));
  state.loaded = true;
  tell("loaded");
  if ((await Promise.all(others)).every(Boolean)) state.complete = true;
}

// Read a path; whether it was read. One that has no answer while the store has none is read when that is back.
async function attempt(topic) {
  try {
    await read(topic);
    return true;
  } catch (error) {
    if (state.hello.live) throw error;
    if (topic === "addresses" && state.missing) state.missing = UNKNOWN;
    tell("loaded");
    return false;
  }
}

function takeReport(report) {
  const before = state.reports.get(report.id);
  state.reports.set(report.id, report);
  noteList(before?.problems ?? [], report.problems, report.name);
}

// ------------------------------------------------------------------- stream

const takers = {
  async hello(hello) {
    clearTimeout(takers.later);
    state.hello = hello;
    if (hello.live || state.loaded) state.connection = hello.live ? "live" : "store";
    tell("connection");
    if (hello.live) await readAll();
    else takers.later = setTimeout(() => {
      state.connection = "store";
      tell("connection");
      readWhatAnswers().catch(() => {}); // it is live by now, and all is being read
    }, SETTLE_SECONDS * 1000);
  },
  async addresses({ put, gone }) {
    hear("addresses", { put, gone });
    for (const row of put) {
      prepared(row);
      noteAddress(state.addresses.get(row.id), row);
      state.addresses.set(row.id, row);
    }
    for (const each of gone) {
      const row = state.addresses.get(idOf(each));
      if (row) noteAddress(row, null);
      state.addresses.delete(idOf(each));
    }
    sorted = null;
    tell("addresses");
  },
  async report(report) {
    hear("reports", report);
    takeReport(report);
    tell("reports");
  },
  async changed({ changed: topics }) {
    await Promise.all(topics.filter((each) => readers[each]).map(attempt));
  },
};

// Take events one by one, in their order; what fails to be read ends the stream, and all is read anew.
async function follow(onAlive) {
  const stop = new AbortController();
  let quiet;
  const alive = () => {
    clearTimeout(quiet);
    quiet = setTimeout(() => stop.abort(), QUIET_SECONDS * 1000);
  };
  try {
    alive();
    const answer = await fetch("/api/events", {
      headers: token ? { Authorization: `Bearer ${token}` } : {}, signal: stop.signal,
    });
    if (answer.status === 401) throw new NeedsToken();
    if (!answer.ok) throw new Error((await answer.json()).message);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    let failure = null;
    for (;;) {
      const { done, value } = await reader.read();
      if (failure) throw failure;
      if (done) return;
      alive();
      onAlive();
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) {
        const [, name, data] = /^event: (.*)\ndata: (.*)$/s.exec(event) ?? [];
        // not awaited: what is read anew must not hold up the events behind it
        if (takers[name]) takers[name](JSON.parse(data)).catch((error) => { failure = error; stop.abort(); });
      }
    }
  } finally {
    clearTimeout(quiet);
    stop.abort();
  }
}

export async function connect(askForToken) {
  token = takeToken();
  let pause = 0.5;
  for (;;) {
    try {
      await follow(() => { pause = 0.5; });
    } catch (error) {
      if (error instanceof NeedsToken) {
        token = await askForToken();
        sessionStorage.setItem("token", token);
        continue;
      }
    }
    state.connection = "lost";
    tell("connection");
    await new Promise((done) => {
      setTimeout(done, pause * 1000);
      window.addEventListener("online", done, { once: true });
    });
    pause = Math.min(pause * 2, 5);
  }
}

// The token of the address that `macvlan-global page` prints. It is kept for this tab, and taken out of the address.
function takeToken() {
  const given = /[#&]token=([\w-]+)/.exec(location.hash);
  if (given) {
    sessionStorage.setItem("token", given[1]);
    history.replaceState(null, "", "#plan");
  }
  return sessionStorage.getItem("token") ?? "";
}
