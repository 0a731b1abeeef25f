// The console's frame: who is logged in, where one is, and the page.
import React, { useDeferredValue, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { begin, post, useLive, useSection, useSession, useValue } from "./store.js";
import { setLanguage, t, useLanguage } from "./i18n.js";
import { nextTheme, useTheme } from "./theme.js";
import { Pill } from "./parts.jsx";
import { Overview } from "./page_overview.jsx";
import { Nodes } from "./page_nodes.jsx";
import { Performance } from "./page_performance.jsx";
import { Alerts } from "./page_alerts.jsx";
import { Incidents } from "./page_incidents.jsx";
import { Actions } from "./page_actions.jsx";
import { Models, Tenants } from "./page_usage.jsx";
import { Chat } from "./page_chat.jsx";

// Libraries that write HTML get it as text: no name, prompt or alert can become markup.
if (window.trustedTypes) {
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  window.trustedTypes.createPolicy("default", { createHTML: escaped });
}

const pages = [
  ["overview", Overview, "M3 12 12 4l9 8M6 10v10h12V10"], ["nodes", Nodes, "M4 5h16v6H4zM4 14h16v6H4zM8 8h.01M8 17h.01"],
  ["performance", Performance, "M4 19V5M4 19h16M8 15l3-4 3 2 5-7"], ["alerts", Alerts, "M6 16V11a6 6 0 0 1 12 0v5l2 2H4zM10 21h4"],
  ["incidents", Incidents, "M12 3 2 20h20zM12 10v4M12 17h.01"], ["actions", Actions, "M5 4l14 8-14 8z"],
  ["tenants", Tenants, "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6M2 20c0-4 3-6 6-6s6 2 6 6M16 5a3 3 0 0 1 0 6M18 14c3 1 4 3 4 6"],
  ["models", Models, "M12 3 3 7.5v9L12 21l9-4.500v-9zM3 7.500l9 4.500 9-4.500M12 12v9"], ["chat", Chat, "M4 5h16v11H9l-5 4z"],
];

const placeOf = () => {
  const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return { page: pages.some((p) => p[0] === page) ? page : "overview", rest: rest.map(decodeURIComponent) };
};

const Icon = ({ path }) => <svg viewBox="0 0 24 24" aria-hidden="true"><path d={path} /></svg>;

export function healthOf(view, alerts, incidents) {
  if (!view) return "unknown";
  const open = [...incidents.values()].filter((i) => i.state !== "closed");
  if (view.usable_nodes === 0 || open.some((i) => i.level === 1)) return "critical";
  const firing = [...alerts.values()].some((a) => a.phase === "firing" && a.rule !== "dead_man");
  return open.length || firing || view.usable_nodes < view.nodes ? "warning" : "ok";
}
const healthTone = { ok: "ok", warning: "warn", critical: "bad", unknown: "idle" };

function useKeys() {
  useEffect(() => {
    const onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input,textarea,select,dialog")) return;
      const page = pages[Number(event.key) - 1];
      if (page) location.hash = "/" + page[0];
      if (event.key === "/") {
        const filter = document.querySelector("input[type=search]");
        if (filter) {
          event.preventDefault();
          filter.focus();
        }
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

function Badges() {
  const alerts = useSection("alerts"), incidents = useSection("incidents");
  return {
    alerts: [...alerts.values()].filter((a) => a.phase === "firing" && a.rule !== "dead_man").length,
    incidents: [...incidents.values()].filter((i) => i.state !== "closed").length,
  };
}

function Sidebar({ page, open, onGo }) {
  const badges = Badges();
  const session = useSession();
  const language = useLanguage();
  const theme = useTheme();
  return (
    <nav className={open ? "open" : ""} aria-label={t("menu")} id="menu">
      <a className="brand" href="#/overview" onClick={onGo}><img src="icon.svg" alt="" width="26" height="26" />Homeport</a>
      <ul>
        {pages.map(([id, , path], i) => (
          <li key={id}>
            <a href={"#/" + id} aria-current={id === page ? "page" : undefined} onClick={onGo} title={String(i + 1)}>
              <Icon path={path} /><span>{t(id)}</span>{badges[id] > 0 && <b className="badge">{badges[id]}</b>}
            </a>
          </li>
        ))}
      </ul>
      <div className="foot">
        <button type="button" className="plain" onClick={() => setLanguage(language === "zh" ? "en" : "zh")} lang={language === "zh" ? "en" : "zh"}>{t("language")}</button>
        <button type="button" className="plain" onClick={nextTheme}>{t("theme_" + theme)}</button>
        <button type="button" className="plain" onClick={() => post("logout", {}).finally(() => location.reload())}>
          {t("logout")} <small>{session.name}{session.may_act ? "" : ` · ${t("viewer")}`}</small>
        </button>
        <small className="hint">{t("shortcuts")}</small>
      </div>
    </nav>
  );
}

/// Drawn anew when one goes elsewhere, with each picture of the cluster, and in another language.
const Shown = React.memo(function Shown({ place }) {
  const Page = pages.find((p) => p[0] === place.page)[1];
  return <Page key={place.page} rest={place.rest} />;
});

function Frame() {
  const session = useSession(), live = useLive(), view = useValue("cluster");
  const alerts = useSection("alerts"), incidents = useSection("incidents");
  const language = useLanguage();
  useKeys();
  const [place, setPlace] = useState(placeOf());
  const shown = useDeferredValue(place); // the menu answers at once, the page follows
  const [menu, setMenu] = useState(false);
  useEffect(() => {
    const onHash = () => setPlace(placeOf());
    addEventListener("hashchange", onHash);
    return () => removeEventListener("hashchange", onHash);
  }, []);
  useEffect(() => {
    document.title = `${t(place.page)} · Homeport`;
  });
  if (!session) return null;
  const health = healthOf(view, alerts, incidents);
  return (
    <>
      <a className="skip" href="#main" onClick={(e) => (e.preventDefault(), document.getElementById("main").focus())}>{t("skip")}</a>
      <Sidebar page={place.page} open={menu} onGo={() => setMenu(false)} />
      <div className="body">
        <header className="top">
          <button type="button" className="plain burger" aria-expanded={menu} aria-controls="menu" aria-label={t("menu")} onClick={() => setMenu(!menu)}>☰</button>
          <h1>{t(place.page)}</h1>
          <span className="grow" />
          {view && !view.store_ok && <Pill tone="warn" title={view.store_error}>{t("store_bad")}</Pill>}
          <span role="status"><Pill tone={healthTone[health]}>{t("health_" + health)}</Pill></span>
          <span className="live" title={t(live)}><Pill tone={live === "live" ? "ok" : live === "lost" ? "bad" : "idle"}>{t(live)}</Pill></span>
        </header>
        <main id="main" tabIndex="-1"><Shown place={shown} view={view} language={language} /></main>
      </div>
    </>
  );
}

createRoot(document.getElementById("app")).render(<Frame />);
begin();
