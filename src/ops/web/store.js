// What the browser knows: the sections the server streams, kept by id, and the session. Components subscribe to a
// section and are drawn again only when it changed.
import { useSyncExternalStore } from "react";

const state = { session: null, live: "connecting", nowMs: Date.now(), sections: {} };
const listeners = new Set();
const changed = () => listeners.forEach((f) => f());
const subscribe = (f) => (listeners.add(f), () => listeners.delete(f));
const nothing = new Map();

export const useSection = (name) => useSyncExternalStore(subscribe, () => state.sections[name] || nothing);
export const useValue = (name) => useSection(name).get("");
export const useLive = () => useSyncExternalStore(subscribe, () => state.live);
export const useSession = () => useSyncExternalStore(subscribe, () => state.session);

function take(message) {
  for (const [name, part] of Object.entries(message.sections)) {
    const next = message.full ? new Map() : new Map(state.sections[name]);
    for (const [id, value] of Object.entries(part.items)) next.set(id, value);
    for (const id of part.gone) next.delete(id);
    state.sections = { ...state.sections, [name]: next };
  }
  state.nowMs = message.now_ms;
}

function setLive(live) {
  if (state.live !== live) {
    state.live = live;
    changed();
  }
}

function listen() {
  const events = new EventSource("api/events");
  events.onopen = () => setLive("live");
  events.onmessage = (event) => {
    take(JSON.parse(event.data));
    state.live = "live";
    changed();
  };
  events.onerror = async () => {
    setLive("lost");
    if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    events.close();
    try {
      const session = await (await fetch("api/session")).json();
      if (!session.logged_in) return location.reload();
    } catch {
      // the server is away: keep trying
    }
    setTimeout(listen, 2000);
  };
}

export async function begin() {
  state.session = await (await fetch("api/session")).json();
  changed();
  listen();
}

export async function get(path) {
  const answer = await fetch("api/" + path);
  if (answer.status === 401) location.reload();
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || String(answer.status));
  return body;
}

/// The answer itself: for bodies that stream.
export function send(path, body, signal) {
  return fetch("api/" + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": state.session.csrf },
    body: JSON.stringify(body),
    signal,
  });
}

export async function post(path, body) {
  const answer = await send(path, body);
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.error || String(answer.status));
  return json;
}
