import React, { useState } from "react";
import { get, post, useSection, useSession } from "./store.js";
import { named, t } from "./i18n.js";
import { clock, exactTime, seconds } from "./format.js";
import { Card, Empty, Pill, useFetched } from "./parts.jsx";

const toneOfKind = { detected: "bad", action: "info", undo: "info", notice: "idle", note: "idle", recovered: "ok", closed: "ok" };
const stateTone = (i) => (i.state === "closed" ? "idle" : i.state === "recovering" ? "info" : i.level === 1 ? "bad" : "warn");

function Timeline({ incident }) {
  const start = incident.started_ms;
  return (
    <ol className="timeline">
      {incident.timeline.map((e, i) => (
        <li key={i} className={"is-" + (e.ok ? toneOfKind[e.kind] || "idle" : "bad")}>
          <time title={exactTime(e.at_ms)}>{clock(e.at_ms)}<small>+{seconds(Math.max(0.001, (e.at_ms - start) / 1000))}</small></time>
          <div>
            <span className="what">{t(e.kind === "note" ? "k_note" : e.kind)}{e.action && <code>{e.action}</code>}{e.target && <span>{e.target}</span>}{!e.ok && <Pill tone="bad">{t("not_ok")}</Pill>}</span>
            {e.text && <p>{e.text}</p>}
            <small>{e.who}</small>
          </div>
        </li>
      ))}
    </ol>
  );
}

function Story({ incident, onChange }) {
  const session = useSession();
  const [note, setNote] = useState(""), [error, setError] = useState("");
  const tell = async (what, body) => {
    try {
      await post(what, { id: incident.id, ...body });
      setNote("");
      setError("");
      onChange();
    } catch (e) {
      setError(e.message);
    }
  };
  const end = incident.ended_ms || Date.now();
  return (
    <Card title={named(incident)} aside={<Pill tone={stateTone(incident)}>{t("i_" + incident.state)}</Pill>}>
      <p className="meta">
        <span>#{incident.id}</span><span>{t("level" + incident.level)}</span><span>{incident.instance || "–"}</span><span>{t("started")} {clock(incident.started_ms)}</span>
        <span>{t("lasted")} {seconds((end - incident.started_ms) / 1000)}</span>
        {incident.acknowledged_by && <span>{t("acknowledged")} {incident.acknowledged_by}</span>}
      </p>
      {session.may_act && (
        <form className="tools" onSubmit={(e) => (e.preventDefault(), note && tell("note", { text: note }))}>
          {incident.state !== "closed" && !incident.acknowledged_by && <button type="button" className="primary" onClick={() => tell("acknowledge", {})}>{t("acknowledge")}</button>}
          <input value={note} maxLength="500" placeholder={t("note")} aria-label={t("note")} onChange={(e) => setNote(e.target.value)} />
          <button type="submit" disabled={!note}>{t("add")}</button>
          {error && <span className="bad" role="alert">{error}</span>}
        </form>
      )}
      <h3>{t("timeline")}</h3>
      <Timeline incident={incident} />
    </Card>
  );
}

export function Incidents({ rest }) {
  const live = useSection("incidents");
  const { data, again } = useFetched(() => get("list/incidents?limit=100"), [], 15000);
  const all = new Map(((data && data.incidents) || []).map((i) => [String(i.id), i]));
  for (const [id, incident] of live) all.set(id, incident);
  const rows = [...all.values()].sort((a, b) => (a.state === "closed") - (b.state === "closed") || b.started_ms - a.started_ms);
  const chosen = all.get(rest[0]) || (!rest[0] && rows.find((i) => i.state !== "closed"));
  if (!rows.length) return <Card><Empty>{t("no_incidents")}</Empty></Card>;
  return (
    <div className="columns story">
      <Card title={t("all_incidents")}>
        <ul className="picks">
          {rows.map((i) => (
            <li key={i.id}>
              <a href={"#/incidents/" + i.id} aria-current={chosen === i ? "true" : undefined}>
                <Pill tone={stateTone(i)}>{t("level" + i.level)}</Pill>
                <span className="grow">{named(i)}<small>{i.instance} · {clock(i.started_ms)}{i.ended_ms ? ` · ${seconds((i.ended_ms - i.started_ms) / 1000)}` : ""}</small></span>
              </a>
            </li>
          ))}
        </ul>
      </Card>
      {chosen ? <Story key={chosen.id} incident={chosen} onChange={again} /> : <Card><Empty>{t("select_incident")}</Empty></Card>}
    </div>
  );
}
