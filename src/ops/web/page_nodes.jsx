import React, { useCallback, useMemo, useState } from "react";
import { useSection } from "./store.js";
import { t, useLanguage } from "./i18n.js";
import { ago, bytes, clock, count, degrees, exactTime, number, ofBytes, percent, ratio, seconds } from "./format.js";
import { Bar, Card, Condition, Dialog, Pill, Table } from "./parts.jsx";
import { Chart } from "./chart.jsx";
import { WindowChoice } from "./page_performance.jsx";
import { ActionButtons } from "./page_actions.jsx";

const hottest = (node) => node.gpus.reduce((top, g) => Math.max(top, g.temperature_c ?? -Infinity), -Infinity);
const gpuUse = (node) => (node.gpus.length ? node.gpus.reduce((sum, g) => sum + (g.utilization || 0), 0) / node.gpus.length : null);
const known = (v) => (Number.isFinite(v) ? v : null);

const columnsOf = () => [
  { id: "name", title: t("name"), sort: (n) => n.name, cell: (n) => <a href={"#/nodes/" + encodeURIComponent(n.name)} className="strong">{n.name}</a> },
  { id: "state", title: t("state"), sort: (n) => n.condition, cell: (n) => <Condition node={n} /> },
  { id: "group", title: t("group"), sort: (n) => n.group, cell: (n) => <span>{n.group} <small>{t(n.serving ? "serving" : "standby")}</small></span> },
  { id: "model", title: t("model"), sort: (n) => n.model, cell: (n) => <span className="clip">{n.model} <small>{n.weights}</small></span> },
  { id: "running", title: t("running"), right: true, sort: (n) => n.running, cell: (n) => count(n.running) },
  { id: "waiting", title: t("waiting"), right: true, sort: (n) => n.waiting, cell: (n) => count(n.waiting) },
  { id: "tokens", title: t("tokens_s"), right: true, sort: (n) => n.tokens_per_s, cell: (n) => number(n.tokens_per_s) },
  { id: "p99", title: t("first_token_p99"), right: true, sort: (n) => n.first_token.p99_s, cell: (n) => seconds(n.first_token.p99_s) },
  { id: "kv", title: t("kv"), sort: (n) => n.kv_usage, cell: (n) => <Bar value={n.kv_usage} /> },
  { id: "cpu", title: t("cpu"), right: true, sort: (n) => n.host.cpu_ratio, cell: (n) => percent(n.host.cpu_ratio) },
  { id: "gpu", title: "GPU", sort: (n) => gpuUse(n), cell: (n) => (n.gpus.length ? <span className="nowrap">{n.gpus.length} × {percent(gpuUse(n))} · {degrees(known(hottest(n)))}</span> : <small>{t("no_gpu")}</small>) },
];

function Fact({ name, children }) {
  return <div className="fact"><dt>{name}</dt><dd>{children}</dd></div>;
}

function Gpu({ gpu }) {
  const memory = ratio(gpu.memory_used_bytes, gpu.memory_total_bytes);
  return (
    <div className="gpu">
      <h3>GPU {gpu.index} <small>{gpu.name}</small>{gpu.throttled && <Pill tone="warn" title={gpu.throttle_reasons}>{t("throttled")}</Pill>}</h3>
      <dl>
        <Fact name={t("load")}><Bar value={gpu.utilization} warn={2} bad={2} /></Fact>
        <Fact name={t("gpu_memory")}><Bar value={memory} /> <small>{ofBytes(gpu.memory_used_bytes, gpu.memory_total_bytes)}</small></Fact>
        <Fact name={t("temperature")}><span className={gpu.temperature_c > 85 ? "bad" : ""}>{degrees(gpu.temperature_c)}</span></Fact>
        <Fact name={t("power")}>{number(gpu.power_w)} / {number(gpu.power_limit_w)} W</Fact>
        <Fact name={t("clock")}>{number(gpu.clock_mhz)} MHz</Fact>
        <Fact name={t("ecc")}>{count(gpu.ecc_errors)} · {t("xid")} {count(gpu.xid_errors)}</Fact>
      </dl>
    </div>
  );
}

function Detail({ node, onClose }) {
  const [window, setWindow] = useState("15m");
  const series = (metric, lane, label) => [`node/${node.name}/${metric}:${lane}`, label];
  const host = node.host;
  return (
    <Dialog title={node.name} onClose={onClose} wide>
      <div className="tools"><Condition node={node} /><small title={exactTime(node.since_ms)}>{t("since")} {clock(node.since_ms)}</small><span className="grow" /><ActionButtons kind="node" target={node.name} /></div>
      <dl className="facts">
        <Fact name={t("address")}>{node.address}</Fact>
        <Fact name={t("group")}>{node.group} · {t(node.serving ? "serving" : "standby")}</Fact>
        <Fact name={t("model")}>{node.model} <small>{node.weights}</small></Fact>
        <Fact name={t("device")}>{node.device || "–"}</Fact>
        <Fact name={t("running")}>{count(node.running)} · {t("waiting")} {count(node.waiting)}</Fact>
        <Fact name={t("limits")}>{count(node.max_step_tokens)} {t("tokens")} · {count(node.max_running)}</Fact>
        <Fact name={t("cpu")}>{percent(host.cpu_ratio)}</Fact>
        <Fact name={t("memory")}>{ofBytes(host.memory_used_bytes, host.memory_total_bytes)}</Fact>
        <Fact name={t("disk")}>{bytes(host.disk_free_bytes)} / {bytes(host.disk_total_bytes)}</Fact>
        <Fact name={t("network")}>↓ {bytes(host.receive_bytes_s)}/s ↑ {bytes(host.send_bytes_s)}/s</Fact>
        <Fact name={t("seen")}>{ago(node.seen_ms)}</Fact>
      </dl>
      {node.gpus.length > 0 && <div className="gpus">{node.gpus.map((g) => <Gpu key={g.index} gpu={g} />)}</div>}
      <div className="tools"><WindowChoice value={window} onChange={setWindow} /></div>
      <div className="charts">
        <Chart title={t("c_node_tokens")} window={window} format={number} fill lanes={[series("tokens", "mean", t("generated"))]} />
        <Chart title={t("c_node_load")} window={window} format={number} lanes={[series("running", "mean", t("running")), series("waiting", "mean", t("waiting"))]} />
        <Chart title={t("kv")} window={window} format={percent} fill highest={1} lanes={[series("kv", "mean", t("kv")), series("cache_hit", "mean", t("cache_hit"))]} />
        <Chart title={t("c_first_token")} window={window} format={seconds} lanes={[series("ttft_p50", "mean", "P50"), series("ttft_p99", "peak", "P99")]} />
      </div>
    </Dialog>
  );
}

export function Nodes({ rest }) {
  const language = useLanguage();
  const nodes = useSection("nodes");
  const [filter, setFilter] = useState("");
  const columns = useMemo(columnsOf, [language]);
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...nodes.values()].filter((n) => words.every((w) => `${n.name} ${n.condition} ${t(n.condition)} ${n.model} ${n.weights} ${n.address} ${n.device}`.toLowerCase().includes(w)));
  const chosen = rest[0] && nodes.get(rest[0]);
  const go = useCallback((n) => (location.hash = "/nodes/" + encodeURIComponent(n.name)), []);
  return (
    <>
      <div className="tools">
        <input type="search" placeholder={t("filter")} aria-label={t("filter")} value={filter} onChange={(e) => setFilter(e.target.value)} />
        <small>{rows.length} / {nodes.size}</small>
      </div>
      <Card><Table label={t("nodes")} columns={columns} rows={rows} rowKey={(n) => n.name} empty={t("no_nodes")} onRow={go} /></Card>
      {chosen && <Detail key={chosen.name} node={chosen} onClose={() => (location.hash = "/nodes")} />}
    </>
  );
}
