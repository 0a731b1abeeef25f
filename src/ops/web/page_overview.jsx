import React from "react";
import { useSection, useValue } from "./store.js";
import { named, t } from "./i18n.js";
import { ago, count, number, percent, seconds } from "./format.js";
import { Card, Condition, Empty, Pill, toneOfCondition } from "./parts.jsx";
import { Chart } from "./chart.jsx";

function Tile({ title, value, detail, tone }) {
  return (
    <div className={"tile " + (tone || "")}>
      <span className="title">{title}</span>
      <span className="value">{value}</span>
      <span className="detail">{detail}</span>
    </div>
  );
}

/// Every node as one small cell: two hundred fit, and the bad ones are seen first.
function NodeGrid() {
  const nodes = [...useSection("nodes").values()];
  if (!nodes.length) return <Empty>{t("no_data")}</Empty>;
  const groups = [...new Set(nodes.map((n) => n.group))].sort((a, b) => a - b);
  return groups.map((group) => {
    const members = nodes.filter((n) => n.group === group);
    return (
      <div className="group" key={group}>
        <p className="groupname">{t("group")} {group} · {t(members.some((n) => n.serving) ? "serving" : "standby")} · {members.filter((n) => n.condition === "ready").length}/{members.length}</p>
        <ul className="grid">
          {members.map((n) => (
            <li key={n.name}>
              <a href={"#/nodes/" + encodeURIComponent(n.name)} className={"cell " + toneOfCondition(n.condition)} title={`${n.name} · ${t(n.condition)} · KV ${percent(n.kv_usage)}`}>
                <span className="fill" style={{ height: (n.kv_usage || 0) * 100 + "%" }} aria-hidden="true" />
                <span className="text">{members.length > 24 ? "" : n.name}</span>
              </a>
            </li>
          ))}
        </ul>
      </div>
    );
  });
}

export function IncidentLine({ incident }) {
  return (
    <a className="line" href={"#/incidents/" + incident.id}>
      <Pill tone={incident.state === "closed" ? "idle" : incident.level === 1 ? "bad" : "warn"}>{t("level" + incident.level)}</Pill>
      <span className="grow">{named(incident)} <small>{incident.instance}</small></span>
      <small>{ago(incident.started_ms)}</small>
    </a>
  );
}

function Troubles() {
  const incidents = [...useSection("incidents").values()].filter((i) => i.state !== "closed");
  const alerts = [...useSection("alerts").values()].filter((a) => a.rule !== "dead_man").sort((a, b) => (a.phase > b.phase) - (a.phase < b.phase));
  return (
    <Card title={t("open_incidents")} className="troubles">
      {incidents.map((i) => <IncidentLine key={i.id} incident={i} />)}
      {alerts.slice(0, 8).map((a) => (
        <a className="line" href="#/alerts" key={a.rule + a.instance}>
          <Pill tone={a.phase === "firing" ? "warn" : "info"}>{t(a.phase)}</Pill>
          <span className="grow">{named(a)} <small>{a.instance}</small></span>
          <small>{ago(a.since_ms)}</small>
        </a>
      ))}
      {!incidents.length && !alerts.length && <Empty>{t("no_alerts")}</Empty>}
    </Card>
  );
}

export function Overview() {
  const v = useValue("cluster");
  if (!v) return <Empty>{t("health_unknown")}</Empty>;
  const bad = v.usable_nodes === 0 ? "bad" : v.usable_nodes < v.nodes ? "warn" : "";
  return (
    <>
      <div className="tiles">
        <Tile title={t("usable_nodes")} value={`${v.usable_nodes} / ${v.nodes}`} detail={`${t("group")} ${v.serving_group} ${t("serving")}`} tone={bad} />
        <Tile title={t("requests_s")} value={number(v.requests_per_s)} detail={`${count(v.open_requests)} ${t("open").toLowerCase()}`} />
        <Tile title={t("tokens_s")} value={number(v.tokens_per_s)} detail={`+ ${number(v.prompt_tokens_per_s)} ${t("prompt")}`} />
        <Tile title={t("first_token_p99")} value={seconds(v.first_token.p99_s)} detail={`P50 ${seconds(v.first_token.p50_s)} · ${t("five_minutes")}`} />
        <Tile title={t("queue")} value={count(v.waiting_requests)} detail={`${t("resumes")} ${number(v.resumes_per_s)} / s`} />
        <Tile title={t("kv")} value={percent(v.kv_usage)} detail={`${t("cache_hit")} ${percent(v.cache_hit_ratio)}`} tone={v.kv_usage > 0.9 ? "bad" : v.kv_usage > 0.8 ? "warn" : ""} />
        <Tile title={t("errors")} value={percent(v.error_ratio)} detail={`${t("timeouts")} ${percent(v.timeout_ratio)}`} tone={v.error_ratio > 0.01 ? "bad" : ""} />
      </div>
      <div className="columns">
        <Card title={t("nodes")} aside={<a href="#/nodes">{t("details")}</a>}><NodeGrid /></Card>
        <Troubles />
      </div>
      <div className="charts">
        <Chart title={t("c_first_token")} window="15m" format={seconds} lanes={[["ttft:p50", "P50"], ["ttft:p90", "P90"], ["ttft:p99", "P99"]]} />
        <Chart title={t("c_tokens")} window="15m" format={number} fill lanes={[["tokens:mean", t("generated")], ["prompt_tokens:mean", t("prompt")]]} />
        <Chart title={t("c_queue")} window="15m" format={number} lanes={[["open:mean", t("open")], ["waiting:mean", t("waiting")]]} />
        <Chart title={t("c_kv")} window="15m" format={percent} nodes="kv:mean" highest={1} top={3} />
      </div>
    </>
  );
}
